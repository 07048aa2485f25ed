# Completes the activation of a conda environment; pixi sources it.
# shellcheck shell=sh

# conda-forge's package installs chronyd in sbin, which conda does not add to PATH.
export PATH="$CONDA_PREFIX/sbin:$PATH"
