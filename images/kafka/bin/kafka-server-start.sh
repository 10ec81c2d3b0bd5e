#!/usr/bin/env bash
# kafka-server-start.sh PROPERTIES [--override NAME=VALUE]...
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G}
export KAFKA_JVM_PERFORMANCE_OPTS=${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true}
export KAFKA_LOG4J_OPTS=${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/opt/kafka/config/log4j2.yaml}
export JAVA_ARCHIVE=${JAVA_ARCHIVE:--XX:SharedArchiveFile=/opt/kafka/kafka.jsa}
exec /opt/kafka/bin/kafka-run-class.sh kafka.Kafka "$@"
