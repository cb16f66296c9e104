# Shared by tools/quickstart and tools/test: finds a Python and installs this checkout into an environment.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Prints the first Python of 3.10 to 3.14 that can make virtual environments.
find_python() {
    local candidate
    for candidate in "${EDGEMESH_PYTHON:-}" python3 python3.11 python3.12 python3.13 python3.14 python3.10; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.10 to 3.14 with venv: run  apt-get install python3 python3-venv"
}

# make_environment FOLDER EXTRAS: installs only when setup.cfg or the extras changed since the last time.
make_environment() {
    local folder=$1 extras=$2 python stamp
    stamp="$extras $(cksum <setup.cfg) $(cksum <tools/constraints.txt)"
    if [ -x "$folder/bin/edgemesh" ] && [ "$(cat "$folder/edgemesh-stamp" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    python=$(find_python)
    echo "installing edgemesh[$extras] into $folder with $("$python" --version)" >&2
    "$python" -m venv "$folder" || fail "cannot make the environment $folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint tools/constraints.txt --editable ".[$extras]" || fail "the installation failed; see above"
    echo "$stamp" >"$folder/edgemesh-stamp"
}
