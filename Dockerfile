# CPU build image: torch, ONNX, OpenVINO and LiteRT. docker build -t edgec . && docker run --rm -v "$PWD:/work" edgec build mobilenetv3 --target cpu
FROM python:3.11-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY targets targets
COPY calib_data calib_data
# On x86-64 name the CPU wheel of torch with --build-arg; the default index serves one with CUDA libraries.
ARG PIP_ARGS=""
RUN python -m venv /opt/edgec && /opt/edgec/bin/pip install --no-cache-dir ${PIP_ARGS} -c constraints.txt ".[cpu,arm]"

FROM python:3.11-slim
RUN useradd --create-home --uid 1000 edgec
COPY --from=build /opt/edgec /opt/edgec
ENV PATH=/opt/edgec/bin:$PATH EDGEC_CACHE=/home/edgec/.cache/edgec
USER edgec
WORKDIR /work
ENTRYPOINT ["edgec"]
CMD ["--help"]
