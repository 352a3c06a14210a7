# Sourced by the scripts beside it: says what happens, and names a tool that is missing with the command that
# installs it. Everything goes to stderr, because stdout belongs to the result of a script.

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    printf '\n' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

is_root() {
    [[ $(id -u) == 0 ]]
}

debian_install() {
    say "apt-get install $*"
    # The package lists of a fresh container are empty, so a first failure is not the last word.
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@")
    "${install[@]}" >/dev/null 2>&1 || { apt-get update -qq >&2 && "${install[@]}" >&2; }
}

need_cargo() {
    # rustup puts cargo here, but only a new login shell has it on its PATH.
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        fail "cargo is missing: steward is written in Rust. Install the toolchain with" \
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

need_cargo_part() {
    cargo "$1" --version >/dev/null 2>&1 ||
        fail "cargo $1 is missing. Install it with" "  rustup component add $2"
}

# SQLite, zstd and ring hold C code, and Rust links with the C compiler.
need_c_compiler() {
    if compiles_c; then return; fi
    if is_root && command -v apt-get >/dev/null; then
        debian_install gcc libc6-dev || true
        if compiles_c; then return; fi
    fi
    fail "A C compiler is missing (SQLite, zstd and ring hold C code). Install one with" \
        "  sudo apt-get install gcc libc6-dev      # Debian, Ubuntu" \
        "  sudo dnf install gcc                    # Fedora" \
        "  xcode-select --install                  # macOS"
}

compiles_c() {
    # A compiler without the C library's headers builds nothing.
    printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | "${CC:-cc}" -x c -o /dev/null - 2>/dev/null
}
