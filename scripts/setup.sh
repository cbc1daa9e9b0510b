# Shared by demo and test: make .venv and install the project with exact pins (scripts/constraints.txt).
# Downloads Python packages only: about 250 MB with the CPU build of PyTorch, about 3 GB where pip picks a CUDA build; tests 160 MB more.

set_up() {
  local extra=${1:-} target=.
  [ -n "$extra" ] && target=".[$extra]"
  if [ ! -x .venv/bin/python ]; then
    echo "Making .venv with ${PYTHON:-python3}" >&2
    "${PYTHON:-python3}" -m venv .venv
  fi
  local want
  want=$(cat pyproject.toml scripts/constraints.txt | sha256sum)"$extra"
  if [ "$(cat .venv/.mmel-installed 2>/dev/null)" != "$want" ]; then
    echo "Installing Python packages into .venv (downloads 0.25 to 3 GB on a new machine)" >&2
    .venv/bin/python -m pip install --quiet --upgrade pip -c scripts/constraints.txt
    .venv/bin/python -m pip install --quiet "$(grep '^torch==' scripts/constraints.txt)"  # first: what asks for torch takes this one
    .venv/bin/python -m pip install --quiet -c scripts/constraints.txt -e "$target"
    echo "$want" > .venv/.mmel-installed
  fi
}

# The browser that tests of the report drive; without it they are skipped. Only root on Debian can install it here.
have_chromium() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null && return
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Debian's Chromium for the tests of the report (downloads about 100 MB)" >&2
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 && return
  fi
  echo "No Chromium here: the tests of the report in a browser are skipped (apt install chromium)" >&2
}
