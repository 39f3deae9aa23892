#!/usr/bin/env bash
# Makes a CUDA without a GPU in a folder: NVIDIA's compilers and headers from PyPI, and the fake driver.
#
#   bash setup.sh FOLDER && . FOLDER/env && dpg conformance --device cuda:0
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
version=13.2.86

if [ "$(cat "$folder/version" 2>/dev/null)" != "$version" ]; then
    rm -rf "$folder/wheels" "$folder/cuda"
    python3 -m pip download -q --no-deps -d "$folder/wheels" $(printf "nvidia-cuda-%s==$version " nvrtc runtime cccl crt nvcc)
    for wheel in "$folder"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$folder/cuda"
    done
    rm -r "$folder/wheels"
    mkdir -p "$folder/lib" "$folder/bin"
    mv "$folder/cuda/nvidia/cu13/include" "$folder/include"
    mv "$folder"/cuda/nvidia/cu13/lib/libnvrtc.so.13 "$folder/lib/libnvrtc.so"
    mv "$folder"/cuda/nvidia/cu13/lib/libnvrtc-builtins.so.* "$folder/lib/"
    mv "$folder/cuda/nvidia/cu13/bin/ptxas" "$folder/bin/"
    chmod +x "$folder/bin/ptxas"
    rm -r "$folder/cuda"
    echo "$version" >"$folder/version"
fi
# not `libcuda.so.1`: NVRTC opens that, and asks it for more than there is
g++ -std=c++20 -O2 -w -shared -fPIC -rdynamic -I "$folder/include" "$here/driver.cpp" -o "$folder/lib/libcuda.so" -ldl -pthread
ln -sf libcuda.so "$folder/lib/libnvidia-ml.so.1"
ln -sf libcuda.so "$folder/lib/libcublas.so"
# translated kernels are kept until the translation changes
translation=$(cat "$here"/*.py "$here/kernel.h" | sha256sum)
if [ "$(cat "$folder/translation" 2>/dev/null)" != "$translation" ]; then
    rm -rf "$folder/kernels"
    echo "$translation" >"$folder/translation"
fi
mkdir -p "$folder/kernels"
cat >"$folder/env" <<END
export LD_LIBRARY_PATH=$folder/lib CUDA_PATH=$folder FAKECUDA_HOME=$here FAKECUDA_CACHE=$folder/kernels
END
