#!/bin/sh
# build.sh PROGRAM.cpp ENVIRONMENT: compiles the program against the OpenVINO that pip installed there.
set -eu
site=$("$2/bin/python" -c "import openvino; print(openvino.__path__[0])")
library=$(cd "$site/libs" && ls libopenvino.so.* | head -n 1)
g++ -std=c++17 -O2 "$1" -o "$2/program" -I"$site/include" -L"$site/libs" -l:"$library" -Wl,-rpath,"$site/libs"
