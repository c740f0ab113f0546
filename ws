#!/usr/bin/env bash
# The one command of this workspace; ./ws help lists what it does. tools/setup.sh holds the steps of the set-up.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
STATE="$ROOT/.ws"
VENV="$ROOT/.venv"
VERBS="setup build demo test run shell extra doctor clean help"
LOCK_LIMIT_S=900
TESTED_EXTRAS="planning world inference" # what `./ws test` installs too
CALLER_DIR=$PWD
cd "$ROOT"

# shellcheck source=tools/setup.sh
. "$ROOT/tools/setup.sh"

help() {
  cat <<'TEXT'
usage: ./ws VERB [ARGS]

  demo [ARGS]         the main job on this machine: three replicas, two faults, no failed request
  test [PYTEST ARGS]  linters and types, then the tests; --no-lint as first argument leaves the former out
  setup               ROS 2 Jazzy, Python packages and tools; can be repeated, goes on where it was stopped
  build [ARGS]        colcon build
  run CMD…            a command in the environment: ./ws run ros2 topic list
  shell               a bash in the environment, for colcon, ros2 and skyfog
  extra [NAME]        install a heavy part (see tools/extras/), or list them
  doctor              what is missing, and the command that mends it
  clean [--all]       remove what was built; with --all also the environment and results

demo and test set up and build by themselves.
TEXT
}

say() { printf '%s\n' "$*"; }

die() {
  printf 'ws: %s\n' "$1" >&2
  exit "${2:-1}"
}

# One set-up or build at a time. Children inherit the lock, so that what a killed ./ws leaves running still holds it.
take_lock() {
  mkdir -p "$STATE/log" "$STATE/stamp"
  exec 9>>"$STATE/lock"
  if ! flock -n 9; then
    say "Another ./ws (process $(cat "$STATE/lock.owner" 2>/dev/null || echo '?')) is at work here; waiting for it."
    flock -w "$LOCK_LIMIT_S" 9 || die "it still is after $LOCK_LIMIT_S s. If it hangs, end it and repeat."
  fi
  echo $$ >"$STATE/lock.owner"
}

drop_lock() { exec 9>&-; }

enter_environment() {
  [ -x "$VENV/bin/python" ] || die "there is no environment yet: run ./ws setup"
  # shellcheck source=tools/env.sh
  . "$ROOT/tools/env.sh"
}

# What a rebuild depends on. Python sources are linked into install/, so that they count only by what setup.py says.
build_inputs() {
  {
    find src -type f \( -name package.xml -o -name setup.py -o -name setup.cfg -o -name CMakeLists.txt \
      -o -name '*.msg' -o -name '*.srv' -o -name '*.action' \) -print0 | sort -z | xargs -0 -r sha256sum
    # Files that setup.py installs by pattern: a new name needs a build, a changed content does not.
    find src launch config sim_worlds -name __pycache__ -prune -o -name '*.egg-info' -prune -o -type f -print \
      2>/dev/null | grep -vE '^src/.*\.pyc?$' | sort || true
    sha256sum colcon.meta tools/colcon_defaults.yaml
    cat "$STATE"/stamp/{venv,ros} 2>/dev/null || true
  } | sha256sum | cut -d' ' -f1
}

# Build if the inputs changed since the last build; $1=always builds anyway. Needs the lock.
build_workspace() {
  local stamp=install/.built_from inputs
  inputs="$ROOT $(build_inputs)"
  [ "${1:-}" = always ] || [ "$(cat $stamp 2>/dev/null || true)" != "$inputs" ] || return 0
  # CMake's caches name the folder they were made in.
  case "$(cat $stamp 2>/dev/null || echo "$ROOT ")" in "$ROOT "*) ;; *) rm -rf build install log ;; esac
  rm -f $stamp
  enter_environment
  run_logged build "colcon build" "./ws build, which shows all of it" colcon build
  echo "$inputs" >$stamp
}

# Everything that demo and test stand on, and the named extras; silent where nothing is to be done.
make_ready() {
  local extra
  take_lock
  setup_steps only-work
  for extra in "$@"; do setup_extra only-work "$extra"; done
  build_workspace
  drop_lock
  enter_environment
}

verb_setup() {
  [ $# -eq 0 ] || die "setup takes no arguments" 2
  take_lock
  setup_steps all
  say "Set up. Next: ./ws demo, or ./ws test"
}

verb_build() {
  take_lock
  setup_steps only-work
  if [ $# -eq 0 ]; then
    build_workspace always
    return
  fi
  enter_environment
  colcon build "$@"
}

verb_demo() {
  make_ready
  command -v skyfog >/dev/null || die "the build has no skyfog command; src/skyfog_bringup installs it"
  cd "$CALLER_DIR"
  exec skyfog demo "$@"
}

verb_run() {
  [ $# -gt 0 ] || die "run needs a command, such as: ./ws run ros2 topic list" 2
  enter_environment
  cd "$CALLER_DIR"
  exec "$@"
}

verb_shell() {
  enter_environment
  cd "$CALLER_DIR"
  # shellcheck disable=SC2016  # the inner shell expands it
  exec bash --rcfile <(printf '%s\n' '[ ! -f ~/.bashrc ] || . ~/.bashrc' '. "$SKYFOG_WS/tools/env.sh"' \
    'PS1="(skyfog) $PS1"') -i
}

# Run one check: its name and time in a line, its output only if it fails.
check() {
  local name=$1 began=${EPOCHREALTIME//[.,]/} status=0 tenths took
  shift
  "$@" >"$STATE/log/check.log" 2>&1 || status=$?
  tenths=$(((${EPOCHREALTIME//[.,]/} - began) / 100000))
  took=$((tenths / 10)).$((tenths % 10))
  if [ $status -eq 0 ]; then
    printf '  %-14s ok      %6s s\n' "$name" "$took"
    return 0
  fi
  printf '  %-14s FAILED  %6s s   (%s)\n' "$name" "$took" "$*"
  sed 's/^/    /' "$STATE/log/check.log"
  return 1
}

run_checks() {
  local failed=0
  check "ruff check" ruff check --output-format concise . || failed=1
  check "ruff format" ruff format --check --output-format concise . || failed=1
  check layout python tools/check_layout.py || failed=1
  check codespell codespell || failed=1
  check "import rules" tools/lint_imports.sh || failed=1
  check mypy mypy || failed=1
  check hadolint hadolint docker/*.Dockerfile || failed=1
  check compose check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml || failed=1
  return $failed
}

verb_test() {
  local lint_status=0 test_status=0
  make_ready $TESTED_EXTRAS
  setup_photographs
  if [ "${1:-}" = --no-lint ]; then
    shift
  else
    say "Checks:"
    run_checks || lint_status=1
  fi
  if [ $# -gt 0 ]; then
    python -m pytest "$@" || test_status=$?
  else
    all_tests || test_status=$?
  fi
  [ $test_status -ne 0 ] || test_status=$lint_status
  return $test_status
}

# What computes runs on both cores. What mostly waits runs three at a time, the tests of a file in one process, as they
# share what it starts. What needs the machine to itself comes last.
all_tests() {
  local status=0 computes=(tests/unit tests/property tests/sim) others=(tests/integration tests/ros tests/gazebo)
  python -m pytest -n 2 "${computes[@]}" || status=$?
  python -m pytest -n 3 --dist loadfile -m "not alone" "${others[@]}" || status=$?
  python -m pytest -m alone "${others[@]}" || status=$?
  return $status
}

verb_extra() {
  local name=${1:-} file="tools/extras/${1:-}.txt"
  if [ -z "$name" ] || [ ! -f "$file" ]; then
    [ -z "$name" ] || printf 'ws: no extra "%s"\n' "$name" >&2
    say "Extras: $(cd tools/extras && ls *.txt | grep -v nodeps | sed 's/\.txt//' | tr '\n' ' ')"
    [ -z "$name" ] || exit 2
    return 0
  fi
  take_lock
  setup_steps only-work
  setup_extra all "$name"
}

verb_doctor() {
  local python
  for python in "$VENV/bin/python" "${PYTHON:-python3.11}" python3 ""; do
    # Whether it runs at all: a link into a Python that was removed does not.
    if [ -n "$python" ] && "$python" -c '' 2>/dev/null; then break; fi
  done
  [ -n "$python" ] || die "no Python at all. On Debian 12: apt-get install python3.11 python3.11-venv python3.11-dev"
  "$python" tools/doctor.py
}

verb_clean() {
  case "${1:-}" in
    "") rm -rf build install log ;;
    --all) rm -rf build install log demo_out .venv .ws ;;
    *) die "clean knows only --all" 2 ;;
  esac
}

main() {
  local verb=${1:-help}
  [ $# -eq 0 ] || shift
  case "$verb" in
    help | -h | --help) help ;;
    setup | build | demo | test | run | shell | extra | doctor | clean) "verb_$verb" "$@" ;;
    *) die "unknown verb '$verb'; there are: $VERBS" 2 ;;
  esac
}

main "$@"
