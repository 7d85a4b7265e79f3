"""The nemesis' checker, on evidence made by hand: what each breach is called, and that a sound run has none."""

from dataclasses import replace

from cdckit.change import Change, Op
from cdckit.envelope import decode
from cdckit.position import Lsn, Position
from consumers.worker.status import Report
from tests.nemesis.checker import Committed, Evidence, Finding, Published, Sample, Satellite, check, count
from tests.support.histories import entry
from tests.support.stream_audit import audit

CHANGES = [decode(entry(op, 1, f"v{at}", at).data) for at, op in enumerate("IUUD", 1)]


def committed(change: Change) -> Committed:
    at = change.position
    return Committed(at, change.op, str(change.table), change.key_text, at.commit_lsn, Lsn(at.commit_lsn + 1), {"n": 1})


def seen(change: Change) -> Published:
    at = change.position
    when = float(at.commit_lsn)
    return Published(at, change.op, str(change.table), change.key_text, when, when, {"n": 1})


SOUND = Evidence(
    committed=[committed(change) for change in CHANGES],
    known={1, 2},
    stream=audit(CHANGES),
    seen={change.position: seen(change) for change in CHANGES},
    samples=[Sample(2.5, Lsn(3)), Sample(9.0, Lsn(5))],
    satellites=[Satellite("audit", holds={change.position: 1 for change in CHANGES})],
)
FIRST, LAST = CHANGES[0].position, CHANGES[-1].position


def found(evidence: Evidence) -> list[tuple[str, int]]:
    return [(finding.kind, finding.law) for finding in check(evidence)]


def test_a_sound_run_has_no_findings() -> None:
    assert check(SOUND) == []


def test_what_is_not_in_the_stream_is_lost() -> None:
    without = {position: one for position, one in SOUND.seen.items() if position != LAST}
    held = Satellite("audit", holds=dict.fromkeys(without, 1))
    assert found(replace(SOUND, seen=without, satellites=[held])) == [("lost", 1)]


def test_a_commit_that_the_database_s_own_log_lacks_is_lost() -> None:
    assert found(replace(SOUND, known={1, 77})) == [("lost", 1)]


def test_what_nobody_committed_or_what_was_altered_is_wrong() -> None:
    altered = {**SOUND.seen, LAST: replace(SOUND.seen[LAST], content={"n": 2})}
    assert found(replace(SOUND, seen=altered)) == [("wrong", 1)]
    other = {**SOUND.seen, LAST: replace(SOUND.seen[LAST], op=Op.UPDATE)}
    assert found(replace(SOUND, seen=other)) == [("wrong", 1)]
    assert found(replace(SOUND, committed=SOUND.committed[:-1])) == [("wrong", 1)]


def test_a_key_whose_changes_swapped_is_reordered() -> None:
    assert found(replace(SOUND, stream=audit([*CHANGES[:2], CHANGES[3], CHANGES[2]]))) == [("reordered", 3)]


def test_a_resend_is_no_breach() -> None:
    assert check(replace(SOUND, stream=audit([*CHANGES, *CHANGES[1:]]))) == []


def test_an_acknowledgement_before_the_stream_had_it_is_told_with_its_change() -> None:
    [finding] = check(replace(SOUND, samples=[Sample(3.5, Lsn(5)), Sample(3.6, Lsn(5))]))
    assert (finding.kind, finding.law) == ("wrong", 1)
    assert "acknowledged to 0/5 0.500 s before the stream had D public.orders [1]" in finding.text


def test_a_stream_whose_clock_is_ahead_is_no_breach_and_hides_none() -> None:
    seen = {position: replace(one, arrived=one.arrived + 0.4) for position, one in SOUND.seen.items()}
    ahead = replace(SOUND, seen=seen)
    assert check(replace(ahead, samples=[Sample(4.1, Lsn(5))])) == []
    assert found(replace(ahead, samples=[Sample(3.9, Lsn(5))])) == [("wrong", 1)]


def test_what_a_satellite_lacks_has_twice_or_invents() -> None:
    for holds, wanted in (
        ({FIRST: 0}, ("lost", 2)),
        ({FIRST: 2}, ("duplicated", 5)),
        ({Position(1, Lsn(99), 0): 1}, ("wrong", 5)),
    ):
        held = {change.position: 1 for change in CHANGES} | holds
        assert found(replace(SOUND, satellites=[Satellite("lake", holds={p: n for p, n in held.items() if n})])) == [
            wanted
        ]


def test_accounts_that_do_not_add_up_dead_letters_and_proofs_that_break() -> None:
    report = Report("audit", "shard", 1, 0.0, read=3, applied=1, superseded=1)
    wrong = Satellite("audit", ["a row"], None, [report, replace_stopped(report)], ["a letter"], ["entry 3 is bad"])
    assert found(replace(SOUND, satellites=[wrong])) == [
        ("wrong", 5), ("wrong", 5), ("wrong", 4), ("wrong", 4), ("wrong", 4),
    ]  # fmt: skip


def replace_stopped(report: Report) -> Report:
    return Report(report.consumer, report.shard, 2, 0.0, stopped="too many dead letters")


def test_all_kinds_are_counted() -> None:
    assert count([Finding("lost", 1, "")]) == {"lost": 1, "duplicated": 0, "reordered": 0, "wrong": 0}
