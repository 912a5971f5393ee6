# Sourced by run, test and lab: makes the checkout's own Python environment (.venv) where it is missing or out of date,
# and activates it. PYTHON chooses the interpreter it is made with: PYTHON=python3.12 ./ci/run
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 2

if [ -n "${PYTHON:-}" ]; then
    python=$PYTHON
elif [ -x "$root/.venv/bin/python" ]; then
    python=$root/.venv/bin/python
else
    python=python3
fi
if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.version_info >= (3, 10))' 2>&1); then
    echo "The workbook needs Python 3.10 or newer, and \"$python\" does not run. Install Python, or name one: PYTHON=python3.11 $0" >&2
    exit 2
fi
if [ "${version#* }" != True ]; then
    echo "The workbook needs Python 3.10 or newer, and \"$python\" is ${version% *}. Name another: PYTHON=python3.11 $0" >&2
    exit 2
fi

# Another project's settings must not reach into this environment.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS
export PYTHONNOUSERSITE=1
"$python" "$root/ci/set_up.py" || exit

export VIRTUAL_ENV=$root/.venv
export PATH=$VIRTUAL_ENV/bin:$PATH
