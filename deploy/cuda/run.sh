#!/bin/sh
# Compares rewards on a device with f64, measures every benchmark and makes a short run, and writes
# one report. Nothing is fetched from anywhere.
#
#   sh run.sh [--device cuda:0] [--shapes "tiny small large"] [--rounds 3] [--python python3] [--out report.md]
#
# A CUDA device needs the NVIDIA driver and the CUDA toolkit: NVRTC and its headers, in $CUDA_PATH or
# /usr/local/cuda, and cuBLAS in LD_LIBRARY_PATH. Where the Python has JAX, it is measured on the same device, side by side.
set -u

here=$(cd "$(dirname "$0")" && pwd)
device=cuda:0
shapes="tiny small large"
rounds=3
python=python3
out=report.md

while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 ;;
    --shapes) shapes=$2 ;;
    --rounds) rounds=$2 ;;
    --python) python=$2 ;;
    --out) out=$2 ;;
    *)
        echo "error: \`$1\` is not an option; expected --device, --shapes, --rounds, --python or --out" >&2
        exit 2
        ;;
    esac
    shift 2 || exit 2
done

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
dpg=$here/dpg
if [ ! -x "$dpg" ]; then
    dpg=$work/dpg
    gunzip -c "$here/dpg.gz" >"$dpg" && chmod +x "$dpg" || exit 1
fi
# JAX computes where the engine does, and neither takes the memory of the other
case $device in
cpu*) export JAX_PLATFORMS=cpu ;;
cuda:*) export JAX_CUDA_VISIBLE_DEVICES="${device#cuda:}" ;;
esac
export XLA_PYTHON_CLIENT_PREALLOCATE=false
export DPG_DATA_DIR=$work/data
failed=0

say() { printf '%s\n' "$@" >>"$out"; }

# section TITLE COMMAND...: the command's output under a title, and that it failed if it did
section() {
    echo "$1" >&2
    say "" "## $1" ""
    shift
    attempt "$@"
}

# the same for output that is no Markdown
verbatim() {
    echo "$1" >&2
    say "" "## $1" "" '```'
    shift
    attempt "$@"
    say '```'
}

attempt() {
    if ! "$@" >>"$out" 2>"$work/log"; then
        failed=1
        say "" "FAILED:" ""
        tail -n 20 "$work/log" | sed 's/^/    /' >>"$out"
        tail -n 3 "$work/log" >&2
    fi
}

: >"$out" || exit 1
say "# dpg on $device" "" "- $("$dpg" --version), $(date -u '+%Y-%m-%d %H:%M') UTC" "- $(uname -srm)"
case $device in
cuda*)
    fields=name,driver_version,memory.total,clocks.max.sm
    nvidia-smi --query-gpu=$fields --format=csv,noheader 2>&1 | sed 's/^/- GPU: /' >>"$out"
    ;;
esac
section "Products and rewards against f64" "$dpg" conformance --device "$device"
for shape in $shapes; do
    section "Benchmark, shape $shape" "$dpg" bench --device "$device" --shape "$shape" --rounds "$rounds" --python "$python"
done
verbatim "Plan of a short run" "$dpg" plan "$here/short.toml" --device "$device" --precision
verbatim "A short run" "$dpg" run "$here/short.toml" --device "$device"
[ $failed -eq 0 ] && say "" "All sections passed." || say "" "A section FAILED."
echo "written to $out" >&2
exit $failed
