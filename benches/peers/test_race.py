"""`python3 -m unittest` in this folder: what decides, without a server."""

import math
import unittest

import peers
import table
import targets
from race import Rate


def row(peer, phase, **changes):
    facts = dict.fromkeys(table.NUMBERS, 1.0) | {"errors": 0.0, "answers": 100.0, "other_cores": 0.0}
    return facts | {"peer": peer, "model": "vit_ti", "round": 0, "when": "12:00:00", "phase": phase} | changes


class Medians(unittest.TestCase):
    def median(self, rows, column="rps"):
        return table.Results(rows).median("vit_ti", "ours", "closed", column)

    def test_quiet_rows_win(self):
        rows = [row("ours", "closed", rps=50, when=str(i)) for i in range(2)]
        rows.append(row("ours", "closed", rps=10, when="loud", other_cores=0.3))
        self.assertEqual(self.median(rows), 50)
        self.assertEqual(self.median(rows[2:]), 10)

    def test_one_loud_phase_makes_its_cell_loud(self):
        loud = [row("ours", "closed", rps=10, when="loud"), row("ours", "open_50", when="loud", other_cores=1)]
        self.assertEqual(self.median([*loud, row("ours", "closed", rps=50)]), 50)

    def test_latencies_need_answers(self):
        refused = row("ours", "closed", p99_ms=3, errors=2.0)
        self.assertTrue(math.isnan(self.median([refused], "p99_ms")))
        self.assertEqual(self.median([refused | {"errors": 1.0}], "p99_ms"), 3)

    def test_what_did_not_run_is_no_number(self):
        self.assertTrue(math.isnan(self.median([])))


class Verdicts(unittest.TestCase):
    def verdicts(self, rows):
        return {verdict.measure: verdict for verdict in table.verdicts(table.Results(rows))}

    def test_against_the_best_peer_and_the_ceiling(self):
        rows = [row("ours", "closed", rps=88.0), row("ceiling", "closed", rps=90.0)]
        rows += [row("ref", "closed", rps=70.0), row("mosec_tuned", "closed", rps=81.0)]
        found = self.verdicts(rows)
        best = found["requests/s, of the best peer"]
        self.assertEqual((best.whose, best.met), ("mosec_tuned", False))
        self.assertTrue(found["requests/s, of the ceiling"].met)

    def test_raw_rows_and_floors_are_no_peers(self):
        rows = [row("ours", "closed", rps=88.0), row("mosec_raw", "closed", rps=99.0), row("ref", "closed", rps=8.0)]
        self.assertEqual(self.verdicts(rows)["requests/s, of the best peer"].whose, "ref")

    def test_what_was_not_measured_is_not_met(self):
        found = self.verdicts([row("ours", "closed"), row("ref", "closed")])
        self.assertIsNone(found["p99 in ms at 80 % of our maximum"].met)

    def test_less_is_better_for_memory(self):
        rows = [row("ours", "closed", pss_mb=90.0), row("ref", "closed", pss_mb=80.0)]
        self.assertFalse(self.verdicts(rows)["memory (PSS) in MB"].met)
        self.assertEqual(targets.Verdict("", "", "", 1.0, 0.0, "", 1, False).met, None)


class Names(unittest.TestCase):
    def test_groups_and_names_once_each(self):
        self.assertEqual(peers.chosen("mosec,floors,mosec"), ["mosec", "floor", "floor_eager"])
        with self.assertRaises(SystemExit):
            peers.chosen("nobody")

    def test_the_ceiling_has_no_null_model_and_the_floor_no_other(self):
        self.assertFalse(peers.runs("ceiling", "null0"))
        self.assertFalse(peers.runs("floor", "vit_ti"))

    def test_tuned_models_are_not_batched(self):
        for tuned in (False, True):
            name = "mosec_tuned" if tuned else "mosec"
            settings = peers.BY_NAME[name].settings("vit_ti")
            self.assertEqual(settings["RACE_MAX_BATCH"], "1" if tuned else "8")


class Rates(unittest.TestCase):
    def test_four_fifths_of_the_median(self):
        rate = Rate()
        self.assertIsNone(rate.common("vit_ti"))
        for maximum in (90, 100, 40):
            rate.learn("vit_ti", maximum)
        self.assertEqual(rate.common("vit_ti"), 72)


if __name__ == "__main__":
    unittest.main()
