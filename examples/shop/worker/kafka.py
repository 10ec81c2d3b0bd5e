"""As much of Kafka's protocol as the shop needs: one record to one partition."""
import socket, struct, time

PRODUCE, METADATA = 0, 3


def publish(brokers, topic, key, value):
    """Appends a record to the topic's first partition, through whichever broker leads it."""
    host, port = brokers.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as broker:
        leader = leader_of(broker, topic)
    with socket.create_connection(leader, timeout=10) as broker:
        batch = record_batch(key.encode(), value.encode())
        body = struct.pack(">hhi", -1, -1, 10_000)  # no transaction, all replicas, 10 s
        body += struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0) + struct.pack(">i", len(batch)) + batch
        answer = ask(broker, PRODUCE, 3, body)
        error = struct.unpack_from(">h", answer, 4 + 2 + len(topic) + 4 + 4)[0]
        if error:
            raise OSError(f"Kafka refused a record: error {error}")


def leader_of(broker, topic):
    answer = Reader(ask(broker, METADATA, 1, struct.pack(">i", 1) + string(topic)))
    brokers = {}
    for _ in range(answer.take(">i")):
        node, host, port, _rack = answer.take(">i"), answer.string(), answer.take(">i"), answer.string()
        brokers[node] = (host, port)
    answer.take(">i")  # the controller
    for _ in range(answer.take(">i")):
        answer.take(">h"), answer.string(), answer.take(">b")
        for _ in range(answer.take(">i")):
            _error, partition, leader = answer.take(">h"), answer.take(">i"), answer.take(">i")
            for _ in range(2):  # replicas, and those in sync
                for _ in range(answer.take(">i")):
                    answer.take(">i")
            if partition == 0 and leader in brokers:
                return brokers[leader]
    raise OSError(f"nobody leads {topic}")


def ask(broker, api, version, body):
    request = struct.pack(">hhi", api, version, 1) + string("shop-worker") + body
    broker.sendall(struct.pack(">i", len(request)) + request)
    length = struct.unpack(">i", receive(broker, 4))[0]
    return receive(broker, length)[4:]


def receive(broker, count):
    data = b""
    while len(data) < count:
        more = broker.recv(count - len(data))
        if not more:
            raise OSError("Kafka closed the connection")
        data += more
    return data


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self):
        length = self.take(">h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def record_batch(key, value):
    record = b"\0" + varint(0) + varint(0) + varint(len(key)) + key + varint(len(value)) + value + varint(0)
    now = int(time.time() * 1000)
    rest = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + varint(len(record)) + record
    checked = struct.pack(">iBI", 0, 2, crc32c(rest)) + rest
    return struct.pack(">qi", 0, len(checked)) + checked


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
