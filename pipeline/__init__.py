"""The pipeline. Importing it keeps the libraries below from reporting to their makers.

ONNX Runtime listens to an environment variable, which child processes inherit. OpenVINO has no switch that works
without a file in the user's home; it reports only where its package ``openvino_telemetry`` can be imported.
"""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
