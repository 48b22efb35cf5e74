"""Makes the table of tests/SCOREBOARD.md, for scoreboard.sh.

  scoreboard.py regex ROWS              prints the expression for all tests of the rows
  scoreboard.py table ROWS JUNIT LOGS   prints the table; in LOGS: CAMPAIGN.log, CAMPAIGN.status

Exit status: 1 when a test or campaign failed, or when a row names a test that did not run.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree


def read_rows(path):
    rows = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        number, fault, promise, tests, campaign, missing = (
            field.strip() for field in split_fields(line))
        rows.append((number, fault, promise, tests.split(), campaign, missing))
    return rows


def without_groups(expression):
    """a(b|c) as ab, ac: ctest takes but nine groups in an expression."""
    group = re.search(r"\(([^()]*)\)", expression)
    if group is None:
        return [expression]
    before, after = expression[:group.start()], expression[group.end():]
    return [whole for part in group[1].split("|")
            for whole in without_groups(before + part + after)]


def split_fields(line):
    """Alternatives in expressions are no ends of fields: those have spaces or the line's end."""
    return re.split(r" \|(?= |$)", line)


def read_tests(junit):
    """Of each test: its name, "passed", "failed" or "skipped", and why it was skipped."""
    tests = []
    for case in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
        outcome = {"run": "passed", "fail": "failed"}.get(case.get("status"), "skipped")
        output = case.findtext("system-out") or ""
        reason = re.search(r"Skipped\n(.*)|SKIPPED: (.*)", output)
        # A parameter may be spelled behind the name.
        tests.append((case.get("name").split("  #")[0], outcome,
                      (reason.group(1) or reason.group(2)) if reason else "not run"))
    return tests


def campaign_result(name, logs):
    """What the campaign says of itself, and whether all is well."""
    status = int((logs / f"{name}.status").read_text())
    log = (logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    if status == 77:
        return f"{name}: {log.strip().splitlines()[-1]}", True
    said = re.search(r"^\w+(?: \w+)* done: \d+, violations: \d+.*$|^simulation: .* held, .*$", log,
                     re.MULTILINE)
    return (said.group(0) if said else f"{name}: **failed**, status {status}"), status == 0


def row_result(row, tests, logs):
    _, _, _, expressions, campaign, missing = row
    parts = []
    names = []
    sound = True
    chosen = []
    for expression in expressions:
        found = [test for test in tests if re.search(expression, test[0])]
        chosen += [test for test in found if test not in chosen]
        if not found:
            parts.append(f"**no test {expression}**")
            sound = False
    ran = [test for test in chosen if test[1] != "skipped"]
    failed = [test[0] for test in chosen if test[1] == "failed"]
    if ran:
        parts.append(f"tests: {len(ran)}, violations: {len(failed)}")
    parts += [f"**{name} failed**" for name in failed]
    reasons = {}
    for name, outcome, reason in chosen:
        if outcome == "skipped":
            reasons.setdefault(reason, []).append(name)
    parts += [f"SKIPPED {', '.join(skipped)}: {reason}" for reason, skipped in reasons.items()]
    names += [f"`{test[0]}`" for test in chosen[:3]]
    if len(chosen) > 3:
        names.append(f"{len(chosen) - 3} more")
    if campaign:
        said, well = campaign_result(campaign, logs)
        parts.append(said)
        names.append(f"`{campaign}.sh`")
        sound = sound and well
    if missing:
        parts.append(f"**not yet**: {missing}")
    return ", ".join(names), "; ".join(parts), sound and not failed


def main():
    rows = read_rows(sys.argv[2])
    if sys.argv[1] == "regex":
        print("|".join(alternative for row in rows for expression in row[3]
                       for alternative in without_groups(expression)))
        return 0
    tests = read_tests(sys.argv[3])
    all_sound = True
    print("| # | fault | promised | tests | last run |")
    print("|---|---|---|---|---|")
    for row in rows:
        names, result, sound = row_result(row, tests, pathlib.Path(sys.argv[4]))
        all_sound = all_sound and sound
        cells = [cell.replace("|", "\\|") for cell in (*row[:3], names, result)]
        print(f"| {' | '.join(cells)} |")
    return 0 if all_sound else 1


if __name__ == "__main__":
    sys.exit(main())
