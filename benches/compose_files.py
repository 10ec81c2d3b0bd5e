"""Ten Compose files that cover the keys of the specification between them, for compose_compare.py."""

IDLE = "sh -c 'trap \"exit 0\" TERM; while :; do sleep 0.2; done'"


def service(lines, name="web", image="debian:trixie-slim", command=True):
    body = "".join(f"    {line}\n" for line in lines.strip("\n").splitlines())
    return f"  {name}:\n    image: {image}\n" + (f"    command: {IDLE.replace('$', '$$')}\n" if command else "") + body


FILES = {
    "program": {
        "compose.yaml": "services:\n" + service("""
environment: { A: "1", B: "two words", TOKEN: "${COMPARE_TOKEN}" }
env_file: [web.env]
working_dir: /srv
user: "1000:1000"
hostname: box
domainname: local.test
labels: { a.b: c, "look": "id; pwd; hostname" }
tty: true
stdin_open: true
init: true
stop_signal: SIGINT
stop_grace_period: 7s
expose: ["8080", "9000/udp"]
""") + service("""
entrypoint: ["/bin/sh", "-c"]
command: ["sleep 1000 & wait"]
labels: [x=y]
restart: on-failure:2
""", "other", command=False),
        "web.env": "C=3\nB=lost\n",
    },
    "rights": {
        "compose.yaml": "services:\n" + service("""
cap_add: [NET_ADMIN, CAP_CHOWN]
cap_drop: [ALL]
security_opt: ["no-new-privileges:true"]
group_add: ["44", audio]
devices: ["/dev/zero:/dev/other:r", "/dev/null"]
device_cgroup_rules: ["c 1:3 mr"]
read_only: true
tmpfs: ["/run:size=1m,mode=1777", "/tmp"]
""") + service("""
pid: host
ipc: shareable
uts: host
userns_mode: host
cgroup: host
""", "strong") + service("""
ipc: "service:strong"
pid: "service:strong"
network_mode: "service:strong"
depends_on: [strong]
""", "beside"),
    },
    "limits": {
        "compose.yaml": "services:\n" + service("""
mem_limit: 64m
memswap_limit: 96m
mem_reservation: 32m
cpus: 0.5
cpu_shares: 512
cpuset: "0"
pids_limit: 50
oom_score_adj: 100
shm_size: 16m
ulimits: { nofile: { soft: 512, hard: 1024 }, nproc: 60 }
sysctls: { net.core.somaxconn: 1024, net.ipv4.tcp_syncookies: 0 }
""") + service("""
deploy:
  resources:
    limits: { cpus: "0.25", memory: 48M, pids: 40 }
    reservations: { memory: 20M }
""", "deployed") + service("""
cpu_period: 100000
cpu_quota: 50000
""", "quota"),
    },
    "networks": {
        "compose.yaml": "services:\n" + service("""
networks:
  front: { aliases: [site, www] }
  back: { ipv4_address: 10.217.3.10 }
extra_hosts: ["a.test:10.0.0.1", "b.test=10.0.0.2"]
dns: [1.1.1.1, 8.8.8.8]
dns_search: [x.test]
dns_opt: [ndots:2]
""") + service("""
networks: [back]
container_name: compare-named
links: ["web:friend"]
""", "db") + service("network_mode: none", "alone") + service("network_mode: host", "hosted") + service("networks: { outside: { aliases: [me] } }", "guest") + """\
networks:
  front:
  back: { internal: true, ipam: { config: [{ subnet: 10.217.3.0/24 }] } }
  outside: { external: true, name: compare-outside }
""",
    },
    "volumes": {
        "compose.yaml": "services:\n" + service("""
volumes:
  - named:/named
  - ./here:/here:ro
  - { type: bind, source: ./there, target: /there, bind: { create_host_path: true, propagation: rprivate } }
  - { type: volume, source: named, target: /again, read_only: true, volume: { nocopy: true } }
  - { type: tmpfs, target: /memory, tmpfs: { size: 1m, mode: 0700 } }
  - /anonymous
  - given:/given
  - disk:/disk
labels: { look: "cat /here/file; stat -c %a /memory" }
""") + service("volumes_from: [\"sharer:ro\"]\ndepends_on: [sharer]", "reader") + service("volumes: [named:/named]", "sharer") + """\
volumes:
  named:
  given: { external: true, name: compare-given }
  disk: { driver: local, driver_opts: { type: none, o: bind, device: /usr/share/misc } }
""",
        "here/file": "here\n",
        "there/file": "there\n",
    },
    "files": {
        "compose.yaml": "services:\n" + service("""
configs:
  - inline
  - { source: fromfile, target: /etc/app/file.conf }
  - { source: fromvariable, target: /etc/app/variable.conf, uid: "7", gid: "8", mode: 0440 }
secrets:
  - key
  - { source: token, target: renamed, mode: 0400 }
labels: { look: "stat -c '%n %u %g %a' /etc/app/variable.conf /run/secrets/renamed; cat /inline /etc/app/file.conf /etc/app/variable.conf /run/secrets/key /run/secrets/renamed" }
""") + """\
configs:
  inline: { content: "inline ${COMPARE_TOKEN}" }
  fromfile: { file: ./app.conf }
  fromvariable: { environment: COMPARE_TOKEN }
secrets:
  key: { file: ./key.txt }
  token: { environment: COMPARE_TOKEN }
""",
        "app.conf": "a = 1\n",
        "key.txt": "secret\n",
    },
    "ports": {
        "compose.yaml": "services:\n" + service("""
ports:
  - "39001:80"
  - "127.0.0.1:39002:81"
  - "0.0.0.0:39003:82/udp"
  - "39004-39005:83-84"
  - "85"
  - { target: 86, published: "39006", host_ip: 127.0.0.1, protocol: tcp }
"""),
    },
    "build": {
        "compose.yaml": """\
services:
  web:
    build:
      context: .
      target: run
      args: { WORD: given }
      labels: { made.by: compose }
    labels: { look: "cat /word" }
  inline:
    build: { context: ./other, dockerfile: other.Dockerfile }
""",
        "Dockerfile": "FROM debian:trixie-slim AS run\nARG WORD\nRUN echo $WORD > /word\nUSER 1000\nEXPOSE 8080\nCMD [\"sleep\", \"1000\"]\nFROM run AS last\nENV LAST=1\n",
        "other/other.Dockerfile": "FROM debian:trixie-slim\nENV INLINE=yes\nWORKDIR /inline\nSTOPSIGNAL SIGQUIT\nCMD [\"sleep\", \"1000\"]\n",
    },
    "stack": {
        "compose.yaml": """\
services:
  db:
    image: postgres:17
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: secret, POSTGRES_DB: shop }
    volumes: [data:/var/lib/postgresql/data, ./initdb:/docker-entrypoint-initdb.d:ro]
    healthcheck: { test: [CMD-SHELL, pg_isready -h 127.0.0.1 -U shop], interval: 1s, retries: 60 }
    shm_size: 128m
  cache:
    image: redis:8.0
    command: redis-server --appendonly yes --requirepass "a b"
    healthcheck: { test: [CMD, redis-cli, -a, a b, ping], interval: 1s, retries: 60 }
""" + service("""
depends_on: { db: { condition: service_healthy, restart: true }, cache: { condition: service_healthy } }
environment: [MODE=slow]
""", "api") + "volumes: { data: }\n",
        "initdb/01.sql": "create table item (id int);\n",
    },
    "composition": {
        "compose.yaml": "x-common: &common\n  LANG: C.UTF-8\ninclude: [sub/more.yaml]\nservices:\n" + service("""
environment: { <<: *common, OWN: "1" }
deploy: { replicas: 2 }
profiles: []
""") + """\
  worker:
    extends: { file: base.yaml, service: base }
    environment: { OVER: "2" }
    depends_on: [web, included]
  Under_Score.dot:
    extends: worker
    command: ["sleep", "1000"]
""",
        "base.yaml": "services:\n" + service("""
environment: { BASE: "1", OVER: "1" }
labels: { from: base }
""", "base"),
        "sub/more.yaml": "services:\n" + service("""
environment: { WHO: "${WHO}" }
volumes: ["./data:/data"]
""", "included"),
        "sub/.env": "WHO=sub\n",
        "sub/data/x": "x\n",
        ".env": "OTHER=1\n",
    },
}

PREPARE = [["docker", "network", "create", "compare-outside"], ["docker", "volume", "create", "compare-given"]]
REMOVE = [["docker", "network", "rm", "compare-outside"], ["docker", "volume", "rm", "compare-given"]]
