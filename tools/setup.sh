#!/bin/sh
# Makes a machine ready to build and test patina: R, the packages of DESCRIPTION, a compiler, pandoc.
# On Debian and its relatives, as root, what is missing is installed by apt; elsewhere the script only
# checks and says what to install. Run it as often as you like: with nothing missing it takes a second.
#
# Usage: tools/setup.sh         check, and install what is missing
#        tools/setup.sh air     print the path of the R formatter, installing it for patina if need be
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"

rust_minimum=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' src/rust/Cargo.toml) # rustc 1.x
air_version=0.12.0
newer_suite=trixie       # Debian suite whose sources stand in for packages the system's suite lacks
developer_packages="lintr roxygen2 batchtools jsonlite Seurat"
base_packages=" compiler datasets graphics grDevices grid methods parallel splines stats stats4 tcltk tools utils R "

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- what the package needs -----------------------------------------------------------------------

# Package names in the given fields of a DESCRIPTION read from stdin, without R's own packages.
described_packages() {
  awk -v fields=" $* " '
    /^[A-Za-z]/ { keep = index(fields, " " substr($0, 1, index($0, ":") - 1) " ") > 0; sub(/^[^:]*:/, "") }
    keep { print }
  ' | tr ',' '\n' | sed 's/(.*//; s/[[:space:]]//g' | grep . | while read -r package; do
    case "$base_packages" in *" $package "*) ;; *) echo "$package" ;; esac
  done
}

# Those of the given R packages that are not installed.
missing_packages() {
  if ! have Rscript; then echo "$@"; return; fi
  Rscript --vanilla -e '
    wanted <- commandArgs(TRUE)
    cat(wanted[!nzchar(vapply(wanted, function(p) system.file(package = p), ""))])
  ' "$@"
}

missing_tools() {
  have Rscript || echo r-base-core
  { have cc || have gcc; } && have make || echo r-base-dev
  have pandoc || echo pandoc
}

# Rust comes from apt only where the distribution's is new enough; a compiler that is there is left alone.
check_rust() {
  have cargo && have rustc || ! can_install || ! apt_has_rust || { say "apt installs cargo"; apt_install cargo; }
  have cargo && have rustc ||
    fail "Rust's cargo and rustc (>= 1.$rust_minimum) were not found: install them from https://rustup.rs and run this again."
  minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
  [ -z "$minor" ] || [ "$minor" -ge "$rust_minimum" ] ||
    fail "rustc >= 1.$rust_minimum is needed, this is $(rustc --version): run 'rustup update'."
}

# --- installing on Debian -------------------------------------------------------------------------

can_install() { have apt-get && [ "$(id -u)" = 0 ]; }

apt_install() {
  log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
    install --yes --no-install-recommends "$@" </dev/null >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    fail "apt could not install $*; the end of what it said stands above"
  }
  rm -f "$log"
}

apt_has_rust() {
  apt-get -qq update </dev/null >&2 || say "apt-get update failed; trying with the lists that are there"
  offered=$(apt-cache policy rustc | sed -n 's/^ *Candidate: 1\.\([0-9]*\)\..*/\1/p')
  [ -n "$offered" ] && [ "$offered" -ge "$rust_minimum" ]
}

# The Debian package of each given R package, as "name=debian"; "name=" where there is none.
debian_names() {
  for package in "$@"; do
    lower=$(echo "$package" | tr '[:upper:]' '[:lower:]')
    found=
    for candidate in "r-cran-$lower" "r-bioc-$lower"; do
      if apt-cache show "$candidate" >/dev/null 2>&1; then found=$candidate; break; fi
    done
    echo "$package=$found"
  done
}

install_packages() {
  debian=''
  absent=''
  for pair in $(debian_names "$@"); do
    case "$pair" in
      *=) absent="$absent ${pair%=}" ;;
      *) debian="$debian ${pair#*=}" ;;
    esac
  done
  # shellcheck disable=SC2086 # lists of words
  [ -z "$debian" ] || { say "apt installs$debian"; apt_install $debian; }
  for package in $absent; do
    install_from_newer_suite "$package" || say "could not install $package; carrying on without it"
  done
}

# Installs an R package from the source that a newer Debian suite holds. apt finds it on the mirror
# the system already uses, through a sources list of its own, and verifies signature and checksum.
install_from_newer_suite() (
  set -eu
  package=$1
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | head -n 1)
  [ -n "$mirror" ] || { say "$package is not in this system's archive; in R: BiocManager::install(\"$package\")"; exit 1; }
  say "builds $package from the source in Debian's $newer_suite"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/source"
  chown -R _apt "$work" 2>/dev/null || true
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb-src [signed-by=$keyring] $mirror $newer_suite main" >"$work/sources.list"
  newer() {
    tool=$1; shift
    "$tool" -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
      -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@" </dev/null
  }
  newer apt-get update >&2
  cd "$work/source"
  lower=$(echo "$package" | tr '[:upper:]' '[:lower:]')
  newer apt-get source --download-only --tar-only "r-bioc-$lower" >&2 ||
    newer apt-get source --download-only --tar-only "r-cran-$lower" >&2
  set -- *.orig.tar.*
  needed=$(tar -xOf "$1" "$package/DESCRIPTION" | described_packages Depends Imports LinkingTo)
  # shellcheck disable=SC2086 # lists of words
  needed=$(missing_packages $needed)
  # shellcheck disable=SC2086
  [ -z "$needed" ] || install_packages $needed
  # R_LIBS is ignored: the package is for everybody on this machine.
  R_LIBS='' R CMD INSTALL --no-test-load -l "$(R_LIBS='' Rscript --vanilla -e 'cat(.libPaths()[1])')" "$1" \
    >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
)

# --- the R formatter ------------------------------------------------------------------------------

print_air() {
  if have air; then command -v air; return; fi
  home="${XDG_CACHE_HOME:-$HOME/.cache}/patina/air-$air_version"
  if [ ! -x "$home/bin/air" ]; then
    python3 -c 'import ensurepip' 2>/dev/null || ! can_install || (apt_install python3-venv) || true
    { have python3 && python3 -m venv "$home" && "$home/bin/pip" install -q "air-formatter==$air_version"; } >&2 || {
      rm -rf "$home"
      fail "the R formatter 'air' was not found and could not be installed: pip install air-formatter==$air_version"
    }
  fi
  echo "$home/bin/air"
}

# --------------------------------------------------------------------------------------------------

if [ "${1:-}" = air ]; then print_air; exit; fi

check_rust
wanted="$(described_packages Imports Suggests <DESCRIPTION | tr '\n' ' ')$developer_packages"
tools=$(missing_tools | tr '\n' ' ')
# shellcheck disable=SC2086
packages=$(missing_packages $wanted)
[ -n "$tools$packages" ] || exit 0

if can_install; then
  say "updates apt's lists"
  apt-get -qq update </dev/null >&2 || say "apt-get update failed; trying with the lists that are there"
  # shellcheck disable=SC2086
  [ -z "$tools" ] || { say "apt installs $tools"; apt_install $tools; }
  # shellcheck disable=SC2086
  packages=$(missing_packages $wanted)
  # shellcheck disable=SC2086
  [ -z "$packages" ] || install_packages $packages
  # shellcheck disable=SC2086
  packages=$(missing_packages $wanted)
  tools=$(missing_tools | tr '\n' ' ')
else
  have apt-get && say "not root: run this script once as root (sudo tools/setup.sh), or install by hand:"
fi

[ -z "$tools" ] || say "missing programs: $tools"
if [ -n "$packages" ]; then
  say "missing R packages: $packages"
  say "in R: install.packages(\"BiocManager\"); BiocManager::install(strsplit(\"$packages\", \" \")[[1]])"
fi
# Only what the package cannot run without stops the build.
# shellcheck disable=SC2046
required=$(missing_packages $(described_packages Imports <DESCRIPTION) testthat)
[ -z "$tools$required" ] || fail "cannot go on without: $tools$required"
