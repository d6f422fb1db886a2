"""One line of JSON on stdout for each case: what was wanted, what was seen, and whether they agree."""

import json
import sys
import traceback


class Report:
    """The cases of one suite. `run.py` gathers the lines of all suites into one table."""

    def __init__(self, suite):
        self.suite = suite
        self.failed = 0

    def case(self, name, want, got, detail=""):
        """Records a case. `want` is the value, or a list of the values that will do."""
        ok = got in want if isinstance(want, list) else got == want
        self.failed += not ok
        line = {"suite": self.suite, "case": name, "want": want, "got": got, "ok": ok, "detail": detail}
        # In one piece, since cases may run side by side.
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()
        return ok

    def attempt(self, name, want, function, *arguments):
        """Records what `function` returns: the value seen, or that and a detail."""
        try:
            got = function(*arguments)
        except Exception as error:  # whatever a peer does must end as a line of the table
            self.case(name, want, f"{type(error).__name__}: {error}", traceback.format_exc(limit=-3))
            return
        self.case(name, want, *(got if isinstance(got, tuple) else (got,)))

    def exit(self):
        """Ends the suite: 1 when any case failed."""
        sys.exit(1 if self.failed else 0)
