# Both jobs, from our wheel and hashed requirements: nothing is compiled, and Node is not needed.
#   make package && docker build -t flagedge .
#   docker run --env-file settings.env flagedge sync-job run --every 20s
FROM python:3.13-slim

COPY requirements/run.txt /tmp/run.txt
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r /tmp/run.txt
COPY dist/flagedge-*.whl /tmp/
RUN pip install --no-cache-dir --no-deps /tmp/flagedge-*.whl

# The consumer's file and the sync's archive of states, where they are not on S3.
RUN useradd --create-home --uid 10001 flagedge && install -d -o flagedge /data
USER 10001
WORKDIR /data
VOLUME /data
ENV PYTHONUNBUFFERED=1
CMD ["sync-job", "run", "--every", "20s"]
