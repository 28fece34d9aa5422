#!/usr/bin/env bash
# Run what needs a real OpenStack: the platforms' contract, and tests/openstack. Arguments go to pytest.
# Without ARGOSY_TEST_CLOUD the cloud is the one of AIO_DIR, brought up when it is down: see docs/openstack-testing.md.
set -euo pipefail
cd "$(dirname "$0")/.."

began=$SECONDS
say() { printf '[%4d s] %s\n' $((SECONDS - began)) "$*"; }
openstack() { .venv/bin/openstack --os-cloud "$ARGOSY_TEST_CLOUD" "$@"; }

kernel_options=()
if [ -z "${ARGOSY_TEST_CLOUD:-}" ]; then
  aio=$(cd "${AIO_DIR:-../shared/openstack}" && pwd) || { echo "AIO_DIR names no directory with aio.sh" >&2; exit 2; }
  export ARGOSY_TEST_CLOUD=aio-service OS_CLIENT_CONFIG_FILE=${AIO_STATE:-/var/lib/aio}/clouds.yaml
  # Its guests are emulated in software, and so is what a kernel does to be safe from other guests.
  kernel_options=(mitigations=off tsc=reliable no_timer_check nowatchdog raid=noautodetect)
  if "$aio/aio.sh" status >/dev/null 2>&1; then
    say "the cloud is up"
  else
    say "bringing the cloud up"
    "$aio/aio.sh" up
  fi
  if ! openstack image show debian-12 -f value -c status >/dev/null 2>&1; then
    say "building the plain image, debian-12"
    "$aio/build-image.sh"
  fi
fi
: "${OS_CLIENT_CONFIG_FILE:?says where the clouds.yaml is that has cloud $ARGOSY_TEST_CLOUD}"
export ARGOSY_TEST_PATIENCE=${ARGOSY_TEST_PATIENCE:-10}
export ARGOSY_LOCAL__IMAGES=${ARGOSY_TEST_IMAGES:-/var/tmp/argosy-images-$(id -u)}
build=${ARGOSY_TEST_BUILD:-/var/tmp/argosy-openstack-$(id -u)}
mkdir -p "$build"

# An image is of use as long as it holds the agent's code that is tested, so its name has that code's digest.
code=$(PYTHONPATH=src .venv/bin/python -c 'from argosy.rpc import agent_code; print(agent_code.digest()[:12])')
for kind in "postgresql 15 17" "mariadb 10.11 11.8"; do
  read -ra words <<<"$kind"
  name=argosy-test-${words[0]}-$code
  if [ "$(openstack image list --name "$name" --status active -f value -c ID | wc -l)" -gt 0 ]; then
    say "image $name is there"
    continue
  fi
  say "building image $name"
  options=()
  for option in "${kernel_options[@]}"; do options+=(--kernel-option "$option"); done
  .venv/bin/argosy image build "${words[@]}" --output "$build/$name.qcow2" --install-missing \
    --register --cloud "$ARGOSY_TEST_CLOUD" --name "$name" --home "$build" "${options[@]}"
  rm -f "$build/$name".*
  # Those of earlier code, with the facts, the kernels and the initrds beside them.
  openstack image list -f value -c ID -c Name | while read -r id other; do
    case $other in argosy-test-"${words[0]}"-*) [[ $other == "$name"* ]] || openstack image delete "$id" ;; esac
  done
done

say "testing on cloud $ARGOSY_TEST_CLOUD"
if [ $# -eq 0 ]; then
  set -- tests/platforms/test_platform_contract.py tests/openstack -k "real or not test_platform_contract"
fi
# One after the other: machines share what there is of processors.
.venv/bin/python -m pytest -q --timeout 5400 --durations=25 "$@"
say "done"
