# Shared by the scripts beside this file, which source it: how to reach Debian's package tools.

# fail MESSAGE: ends the script with a message for the person at the keyboard.
fail() {
  echo "${0##*/}: $1" >&2
  exit 1
}

# as_root COMMAND…: runs a command as root, or returns 77 where nothing can give us root. Asks for a password only where
# somebody is there to type it.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    return 77
  fi
}

# apt ARGUMENT…: apt-get as root, never asking anything and waiting for its turn where another one runs.
apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# Tells apart "no root" from a failure of apt itself. refresh_package_lists WHAT-FOR
refresh_package_lists() {
  local status=0
  apt update || status=$?
  case $status in
    0) ;;
    77) fail "the package lists of this machine are missing or out of date, and there is neither root nor sudo to \
renew them; run 'apt-get update' as root, then try again ($1)" ;;
    *) fail "'apt-get update' failed; see above ($1)" ;;
  esac
}
