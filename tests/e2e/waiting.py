"""Waiting for something to become true, with a limit and a reason."""

import time

STEP_SEC = 0.02
STEP_MAX_SEC = 0.25


def wait_for(condition, timeout_sec, what):
    """Calls condition() until it returns something true, and returns that. After timeout_sec the test fails, saying what was
    waited for and what condition() returned last; what it raises goes up at once."""
    deadline = time.monotonic() + timeout_sec
    step_sec = STEP_SEC
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_sec} s for {what}; the last answer was {value!r}")
        time.sleep(step_sec)
        step_sec = min(step_sec * 1.5, STEP_MAX_SEC)
