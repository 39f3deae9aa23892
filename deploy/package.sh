#!/usr/bin/env bash
# Makes what people install: a Python wheel and a Debian package, each with the program, its manual and completions for
# shells.
#   deploy/package.sh [FOLDER]          into `dist` unless FOLDER is given
# It needs maturin (from PyPI) and dpkg-deb. PROFILE=dev takes the program that tests use. MATURIN has more arguments for
# maturin: with "--zig --compatibility manylinux_2_28", and ziglang from PyPI, both are for systems since 2018.
# GPU=cuda,wgpu makes them with those backends (cuda/README.md), in a FOLDER of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-dist}"
out=$(realpath "${1:-dist}")
profile=${PROFILE:-release}
share=deploy/python/dpg.data/data/share
stage=$(mktemp -d)
trap 'rm -rf "$stage" deploy/python/dpg.data' EXIT
if [ -n "${GPU:-}" ]; then
    MATURIN="--features $GPU ${MATURIN:-}"
    # cargo reads it from above deploy/python, and notes its stub in Cargo.lock
    cp Cargo.lock "$stage/Cargo.lock"
    trap 'mv "$stage/Cargo.lock" .; rm -rf "$stage" deploy/python/dpg.data deploy/.cargo' EXIT
    mkdir -p deploy/.cargo
    cp deploy/cuda/config.toml deploy/.cargo/
    (cd deploy/python && cargo metadata --format-version 1 >/dev/null)
fi

# what is smaller without its symbols
[ "$profile" = dev ] || MATURIN="--strip ${MATURIN:-}"
# shellcheck disable=SC2086
wheel() { (cd deploy/python && maturin build --profile "$profile" --out "$1" ${MATURIN:-}); }

# the program, which writes its manual and completions; and once more, with those
wheel "$stage"
python3 -m zipfile -e "$stage"/dpg-*.whl "$stage/program"
dpg=$(echo "$stage"/program/dpg-*.data/scripts/dpg)
chmod +x "$dpg"
mkdir -p $share/bash-completion/completions $share/zsh/site-functions $share/fish/vendor_completions.d
"$dpg" man $share/man/man1 >/dev/null
gzip -9n $share/man/man1/*
"$dpg" completions bash >$share/bash-completion/completions/dpg
"$dpg" completions zsh >$share/zsh/site-functions/_dpg
"$dpg" completions fish >$share/fish/vendor_completions.d/dpg.fish

wheel "$out"

deb=$stage/deb
install -D --strip "$dpg" "$deb/usr/bin/dpg"
mkdir -p "$deb/usr/share/doc/dpg"
cp -r $share/. "$deb/usr/share"
mv "$deb/usr/share/zsh/site-functions" "$deb/usr/share/zsh/vendor-completions"
install -D --mode=644 config/dpg.toml "$deb/etc/dpg/dpg.toml"
install -D --mode=644 deploy/dpg.service "$deb/usr/lib/systemd/system/dpg.service"
cat LICENSE-MIT LICENSE-APACHE crates/engine/src/chart/DejaVuSans.LICENSE >"$deb/usr/share/doc/dpg/copyright"
version=$("$dpg" --version | cut -d' ' -f2)
libc=$(readelf --version-info "$dpg" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1 | cut -d_ -f2)
mkdir "$deb/DEBIAN"
echo /etc/dpg/dpg.toml >"$deb/DEBIAN/conffiles"
cat >"$deb/DEBIAN/control" <<END
Package: dpg
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: the authors of dpg <dpg@localhost>
Section: science
Priority: optional
Depends: libc6 (>= $libc), libgcc-s1
Recommends: ca-certificates
Installed-Size: $(du -sk "$deb" | cut -f1)
Description: synthetic fine-tuning data that moves a metric of a language model
 A generator writes examples, the target model is fine-tuned on them, and the exact derivative of the metric with
 respect to the weight of each example is its reward. The unit dpg.service is there and not enabled.
END
chmod -R go=u-w "$deb"
dpkg-deb --root-owner-group --build "$deb" "$out/dpg_${version}_$(dpkg --print-architecture).deb"
