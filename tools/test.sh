#!/bin/sh
# Runs the named checks one after the other and ends with a line for each: "name: N passed, N failed".
# Exits with status 1 if anything failed. Checks: cargo, testthat, crates, rustfmt, clippy, air, lintr.
set -u
cd "$(dirname "$0")/.." || exit 1
manifest=src/rust/Cargo.toml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs a command; returns its status, and leaves what it printed in $work/log.
logged() {
  { "$@" 2>&1; echo $? >"$work/status"; } | tee "$work/log"
  return "$(cat "$work/status")"
}

summary() { echo "$1: $2 passed, $3 failed${4:+, $4 skipped}" >>"$work/summary"; }

# A check that passes or fails as a whole.
whole() {
  name=$1; shift
  if "$@"; then summary "$name" 1 0; else summary "$name" 0 1; fi
}

check_cargo() {
  status=0
  logged cargo test --manifest-path "$manifest" --no-fail-fast || status=$?
  # One "test result" line for each test binary. A run that fails without a failed test did not compile.
  # shellcheck disable=SC2046
  set -- $(awk '/^test result:/ { for (i = 2; i <= NF; i++) {
      if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^failed/) f += $(i - 1); if ($i ~ /^ignored/) s += $(i - 1)
    } } END { print p + 0, f + 0, s + 0 }' "$work/log")
  if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then summary cargo "$1" 1 "$3"; else summary cargo "$1" "$2" "$3"; fi
}

check_testthat() {
  rm -f "$work/counts"
  Rscript tools/test.R "$work/counts" || true
  if [ -s "$work/counts" ]; then
    # shellcheck disable=SC2046
    summary testthat $(cat "$work/counts")
  else
    summary testthat 0 1 0 # R ended before the tests did
  fi
}

check_rustfmt() { whole rustfmt cargo fmt --all --manifest-path "$manifest" --check; }
check_clippy() { whole clippy cargo clippy --manifest-path "$manifest" --workspace --all-targets --quiet -- -D warnings; }
check_crates() { whole crates Rscript tools/crates.R check; }
check_lintr() { whole lintr Rscript tools/lint.R; }
check_air() {
  if air=$(tools/setup.sh air); then whole air "$air" format --check .; else echo "air: 0 passed, 0 failed, 1 skipped" >>"$work/summary"; fi
}

for check in "$@"; do
  echo "== $check"
  "check_$check"
done

echo
cat "$work/summary"
# In .ci/run several calls share one closing summary.
[ -z "${PATINA_SUMMARY:-}" ] || cat "$work/summary" >>"$PATINA_SUMMARY"
! grep -qv ' 0 failed' "$work/summary"
