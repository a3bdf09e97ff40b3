#!/usr/bin/env bash
# The suite under faked clocks: no promise may depend on the day on which it is tried.
#   tests/dates.sh                  all dates, one after the other
#   tests/dates.sh leap newyear     these
#   tests/dates.sh --of COMMIT      the one that a commit's hash chooses
# Waits for a condition are left alone, too (FORCE_MONOTONIC_FIX): else each start of a thread
# takes 12 ms in place of 0.7, and the suite twice as long.
# Every process gets the same offset to the real clock, so the faked clocks run on together. The
# monotonic clocks and the times of files stay real; tests/support/resigner.py translates for S3.
set -euo pipefail
cd "$(dirname "$0")/.."
dates=(day month leap newyear years)

# What cannot be so under a faked clock; at most five, each with its reason.
excepted=(
    # They put to presigned addresses, and tests/support/resigner.py knows signed headers only.
    tests/benchmarks/test_place.py::test_a_bare_put_stores_both_files_sealed
    tests/benchmarks/test_felt.py::test_writers_are_watched_beside_all_of_ours_and_beside_no_backup
    tests/benchmarks/test_felt.py::test_answers_are_watched_in_a_thread_in_a_child_and_beside_no_backup
)

next_leap_february() {
    local year
    year=$(date -u +%Y)
    while ! date -u -d "$year-02-29" >/dev/null 2>&1 ||
        [ "$(date -u -d "$year-02-28 12:00" +%s)" -le "$(date -u +%s)" ]; do
        year=$((year + 1))
    done
    echo "$year-02-28 12:00"
}

offset_of() {
    local now
    now=$(date -u +%s)
    case $1 in
        day) echo 86400 ;;
        month) echo $((40 * 86400)) ;;
        leap) echo $(($(date -u -d "$(next_leap_february)" +%s) - now)) ;;
        newyear) echo $(($(date -u -d "$(date -u +%Y)-12-31 23:58" +%s) - now)) ;;
        years) echo $(($(date -u -d "+3 years" +%s) - now)) ;;
        *)
            echo "tests/dates.sh: no date $1; there are: ${dates[*]}" >&2
            return 2
            ;;
    esac
}

if [ "${1:-}" = --of ]; then
    set -- "${dates[$((16#${2:0:8} % ${#dates[@]}))]}"
fi
[ $# -gt 0 ] || set -- "${dates[@]}"
deselected=()
for test in ${excepted[@]+"${excepted[@]}"}; do deselected+=(--deselect "$test"); done
library=$(ls /usr/lib/*/faketime/libfaketime.so.1 | head -n 1)
failed=()
for name in "$@"; do
    offset=$(offset_of "$name")
    echo "== $name: the clocks say $(date -u -d "@$(($(date -u +%s) + offset))" '+%F %T') UTC"
    LD_PRELOAD=$library FAKETIME=$(printf '%+d' "$offset") NO_FAKE_STAT=1 DONT_FAKE_MONOTONIC=1 \
        FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_FORCE_MONOTONIC_FIX=0 \
        PYTHONPATH=$PWD/tests/faked_clock \
        .venv/bin/python -m pytest -n "${WORKERS:-2}" --dist worksteal -m "not soak" -p no:cacheprovider \
        ${deselected[@]+"${deselected[@]}"} ${PYTEST_ARGUMENTS:-} || failed+=("$name")
done
[ ${#failed[@]} -eq 0 ] || {
    echo "The suite failed at: ${failed[*]}" >&2
    exit 1
}
