# Read by pixi when it activates an environment, for what conda's own activation leaves out.
# shellcheck shell=sh

# conda-forge's chronyd is a daemon in the place of daemons.
export PATH="$CONDA_PREFIX/sbin:$PATH"
