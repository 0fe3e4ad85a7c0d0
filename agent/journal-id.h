/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the journal's MESSAGE_ID says (sd_journal_send(3), systemd.journal-fields(7)): entries that
 * a program may wait for, and a person may want to have explained (journalctl -x). Each has its
 * explanation in packaging/slipway.catalog; a test compares the two. An id never changes its
 * meaning. Made by `systemd-id128 new`.
 */

/* -- one application; all have the SLIPWAY_ fields of journal.h */

/* A deployment, staging or rollback begins. */
#define JOURNAL_BEGINS "d28b569e5b584da79a14ff5a468daa7b"
/* A release is on disk, and goes live by hand. */
#define JOURNAL_STAGED "6df2b931a0f447108f6d1fde540a7ec5"
/* A release is live, and held. */
#define JOURNAL_LIVE "5af3c97d4bfb481c899e3fca28aa371c"
/* A release waits for somebody to say that it is good. */
#define JOURNAL_UNCONFIRMED "251466e017cf4385952c255d03b55c37"
/* It failed before anything was changed. */
#define JOURNAL_FAILED "1388af560ce7402f813daf2f7dae9584"
/* It was put off before anything was changed. */
#define JOURNAL_PUT_OFF "a7dd06478e584c1b840c361a4f198a1b"
/* It was given up before anything was changed: for a hold, or a newer deployment. */
#define JOURNAL_GIVEN_UP "68b0fb8502e14687831009d802ff76bb"
/* What a crash or a restart cut off is gone on with. */
#define JOURNAL_TAKEN_UP "8317222b4f754c66b2287c73ffc2da25"
/* A release went wrong, and the one before is being put back. */
#define JOURNAL_TAKEN_BACK "8e2aa406e0594ffd99b3ca5a3f516209"
/* The one before runs again. */
#define JOURNAL_UNDONE "1d8850ac301144cbb862a9ed02224d10"
/* What is live does not run, and there is no way back from there. */
#define JOURNAL_DOWN "2387744688bf43f7ada9531fae26bf0b"
/* Somebody holds deployments off. */
#define JOURNAL_HELD "68234181a4364d3ab194be9e832a5a63"
/* The channel decides again. */
#define JOURNAL_RESUMED "e46d23725bd74133a1f4a1c62c0fbbd7"
/* The publisher halted the channel. */
#define JOURNAL_HALTED "4c1c025b1ffd499e81c133c5f539fa12"
/* What the channel says is not accepted. */
#define JOURNAL_REFUSED "537d06f5cbb4453583dea7002c96c3cf"
/* The channel's manifest expires soon. */
#define JOURNAL_EXPIRES "a7e7e726701d466c9e6e6520bde8e79d"
/* The channel can't be asked. */
#define JOURNAL_POLL_FAILED "4b9e357287034ef7ba1986e3311f9e3e"
/* It can again, and what it says is accepted. */
#define JOURNAL_POLL_WELL "65ac01d6357447dd9298dfb83d449724"
/* What the channel wants is accepted, but can't be begun on this host. */
#define JOURNAL_HINDERED "0a987c35daa44a9ea65a806b5fb633c7"

/* -- the host */

/* slipwayd can't start: the configuration, the trust root, a directory. */
#define JOURNAL_NO_START "37b6138fb6734849b2935a67328010e5"
/* Who this host is can't be known, or what that means. */
#define JOURNAL_NOT_KNOWN "1120197994314170a0cda980b25e6a2a"
/* Another agent takes orders that are for this one. */
#define JOURNAL_RIVAL "586fcf82b31c4dc198a7fd2fc1f23ba0"
/* No orders can come through AWS Systems Manager. */
#define JOURNAL_NO_ORDERS "3cf42629ce634766b3d574fae2198977"
/* An order came from afar. */
#define JOURNAL_ORDER "8b156ce9c48946afa5533583f7f889c0"
/* It was carried out, or not. */
#define JOURNAL_ORDER_ENDED "969ffb52a5944f198231481c88f5ea77"
