#!/bin/sh
# Environments for the other methods, outside the repository: setup.sh FOLDER
#
# FOLDER/current has squidpy, flashs, scbsp and hotspotsc under Python 3.11 or newer; FOLDER/spatialde has SpatialDE
# 1.1.3, which needs a Python and a scipy of its time. run.R takes the same FOLDER.
set -eu
folder=${1:?"usage: setup.sh FOLDER"}
mkdir -p "$folder"

python=${PYTHON:-python3}
"$python" -m venv "$folder/current"
"$folder/current/bin/pip" install --quiet squidpy==1.8.0 flashs==0.2.1 scbsp==0.4.2 hotspotsc==1.1.3

# scipy gave its copies of numpy's functions up in 1.12, and pandas DataFrame.append in 2.0: SpatialDE 1.1.3 calls both.
old=${PYTHON_OLD:-python3.9}
"$old" -m venv "$folder/spatialde"
"$folder/spatialde/bin/pip" install --quiet 'numpy<1.24' 'scipy<1.9' 'pandas<1.5' patsy SpatialDE==1.1.3

for environment in current spatialde; do
    "$folder/$environment/bin/pip" freeze >"$folder/$environment.txt"
done
