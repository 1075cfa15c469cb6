# Sourced by the other scripts: makes .venv once and installs what the argument asks for ("" or "[test]").
# Python 3.11 or newer; set PYTHON to choose one.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="${1:-}"
if [ ! -x .venv/bin/python ]; then
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || { echo "Python 3.11 or newer is needed; set PYTHON to one" >&2; exit 1; }
  "${PYTHON:-python3}" -m venv .venv
fi
stamp=".venv/installed${extras}"
if [ ! -f "$stamp" ] || [ requirements.txt -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
  echo "installing requirements into .venv ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e ".${extras}"
  touch "$stamp"
fi
