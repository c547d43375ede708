# Sourced by the scripts beside it: makes .venv and keeps it up to date. Needs Python >= 3.11 and, the first time, a
# package index for pip. Does nothing when pyproject.toml, the interpreter and this folder are those of the last time.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  say "$@"
  exit 2
}

# $PYTHON, else the first python3 on PATH that is new enough.
find_python() {
  local name
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  die "no Python 3.11 or newer among ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; set PYTHON=/path/to/python3"
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Install Debian packages. Their services stay off: the tests start the engines that they need themselves.
apt_install() {
  local output
  say "apt-get install $*"
  output=$(
    exec </dev/null 2>&1
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      trap 'exit 130' INT TERM HUP
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod 755 /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q # one archive of several that does not answer need not matter
    apt-get install -q -y --no-install-recommends "$@"
  ) && return
  tail -n 10 <<<"$output" >&2
  return 1
}

# Debian keeps ensurepip, which a virtual environment needs, in a package of its own.
need_ensurepip() {
  local python=$1 package
  "$python" -c 'import venv; from ensurepip import version' 2>/dev/null && return
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  can_apt || die "$python cannot make virtual environments; as root: apt-get install $package"
  apt_install "$package" || die "$package could not be installed; see the lines above"
}

# pip_install WHAT: pip's own words only when it fails, and then what they mean.
pip_install() {
  local output
  output=$(.venv/bin/python -m pip install --disable-pip-version-check --quiet --editable "$1" </dev/null 2>&1) && return
  tail -n 15 <<<"$output" >&2
  if grep -qE 'NewConnectionError|[Nn]ame ?[Rr]esolution|Timeout|unreachable|ProxyError|SSLError|Connection (refused|reset)' <<<"$output"; then
    die "pip reached no package index: the first run needs the network, or an index or folder of wheels named in pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, pip.conf)"
  fi
  die "pip could not install $1; see the lines above"
}

# What an interpreter is, to tell whether .venv was made from it.
which_python() { "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null; }

# make_venv EXTRA: EXTRA is "" (to use isobench) or "dev" (to test it); what was made for "dev" serves both.
make_venv() {
  local extra=$1 python want stamp
  [ "$(uname -s)" = Linux ] || die "isobench runs on Linux only"
  python=$(find_python) || exit 2
  want=$({ pwd -P; which_python "$python"; cat pyproject.toml; } | sha256sum | cut -d ' ' -f 1)
  for stamp in .venv/stamp-dev ".venv/stamp-$extra"; do
    if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && which_python .venv/bin/python >/dev/null; then return; fi
  done
  say "installing into .venv ($("$python" -V), $python)"
  need_ensurepip "$python"
  # Made from another interpreter, or in another folder (its scripts name their interpreter by path): make it anew.
  if [ "$(which_python .venv/bin/python)" != "$(which_python "$python")" ] ||
    ! head -n 3 .venv/bin/pip 2>/dev/null | grep -qF "$(pwd -P)/.venv/"; then
    "$python" -m venv --clear .venv || die "$python -m venv .venv failed"
  fi
  rm -f .venv/stamp-*
  pip_install ".${extra:+[$extra]}"
  printf '%s\n' "$want" >".venv/stamp-$extra"
}
