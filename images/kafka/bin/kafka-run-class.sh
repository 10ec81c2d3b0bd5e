#!/usr/bin/env bash
# kafka-run-class.sh CLASS ARGUMENT...: a Java program with Kafka's jars, by the variables that Kafka documents.
# JAVA_ARCHIVE is the option that names the class-data archive, which makes starting about twice as fast.
set -euo pipefail
# shellcheck disable=SC2086  # the variables hold several options each
exec java ${KAFKA_HEAP_OPTS:--Xmx256M} \
  ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC} \
  "${JAVA_ARCHIVE:--XX:SharedArchiveFile=/opt/kafka/tools.jsa}" -Xlog:disable -Xlog:all=error:stderr \
  ${KAFKA_JMX_OPTS:-} ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/opt/kafka/config/tools-log4j2.yaml} \
  -Dkafka.logs.dir=/opt/kafka/logs ${KAFKA_OPTS:-} -cp "$(</opt/kafka/libs/classpath)" "$@"
