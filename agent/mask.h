/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include <cJSON.h>

#include "macro.h"

/*
 * Takes secrets out of what is given away: "***" stands in their place. They are known by
 *
 *   - their names: what follows a word with "secret", "token", "password" or the like in it, and
 *     "=" or ":", or what is next to it in a list, to the end of the quotes that it stands in, else
 *     of the line, or of one of the lines that slipwayd quotes with " | " between them;
 *   - their form: user and password, and the query, of a URL (a presigned one is a key); keys of
 *     AWS, and other long words that look random; the tokens of a few services; private keys in
 *     PEM.
 *
 * Rather too much goes than too little. Digests in hex stay. A password that has neither a name
 * nor a form is not found, as nobody could.
 */

/* Writes the text with what is secret masked, each line cleaned by text_clean(). Lines are cut
 * after MASK_LINE_MAX bytes. Changes text. Errors in f stay there: see ferror(3). */
#define MASK_LINE_MAX 4096
void mask_text(char *text, FILE *f);

/* Cuts a text that has more than `size` bytes, before the word that would be cut: half a key or URL
 * has no form by which it could be known. */
void mask_cut(char *text, size_t size);

/* Masks, in place, what members of these names hold, however deep; in "variables" every value, and
 * of a "command" (activate.h) all but the program. The rest is for mask_text(). Recursion is
 * bounded by json_parse(). -ENOMEM */
_must_check_ int mask_json(cJSON *tree);

/* Masks what each member holds whose name is not among `known` (ends with NULL), but in an object
 * named `open`, whose members have names of their own. For a document that nobody has judged. */
_must_check_ int mask_json_unknown(cJSON *tree, const char *const *known, const char *open);
