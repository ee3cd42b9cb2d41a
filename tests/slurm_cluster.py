"""A SLURM cluster on one machine: a CPU node, two nodes with a fake GPU each, two with two.

    python tests/slurm_cluster.py [--accounting] COMMAND...

brings it up from Debian's packages, runs the command in it and takes it down again, whatever
happens. Needs root, slurm-wlm and munge; with --accounting also slurmdbd and mariadb-server.
"""

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
ACCOUNTING_DAEMONS = ("slurmdbd", "mariadbd", "mariadb-install-db")
#: Where commands look that lost SLURM_CONF: the plugin's job steps drop SLURM's variables.
SYSTEM_CONFIGURATION = Path("/etc/slurm/slurm.conf")
#: Node, fake GPUs. Memory and CPUs are what the configuration says: two real cores serve all.
NODES = {"cpu1": 0, "gpu1": 1, "gpu2": 1, "pair1": 2, "pair2": 2}
GPU_MODEL = "fake"

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=5
KillWait=5
OverTimeLimit=0
MinJobAge=3600
MailProg=/bin/true
{accounting}
GresTypes=gpu
{nodes}
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=2-00:00:00 State=UP
PartitionName=gpu Nodes=gpu1,gpu2 MaxTime=2-00:00:00 State=UP
PartitionName=pairs Nodes=pair1,pair2 MaxTime=2-00:00:00 State=UP
"""

ACCOUNTING = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
"""

DATABASE_DAEMON = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={db_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def missing(accounting: bool) -> str | None:
    """Why no cluster can be started here; None if one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a SLURM cluster of one's own needs root"
    if SYSTEM_CONFIGURATION.exists():
        return f"this machine belongs to a SLURM cluster: {SYSTEM_CONFIGURATION} exists"
    wanted = DAEMONS + (ACCOUNTING_DAEMONS if accounting else ())
    absent = [daemon for daemon in wanted if shutil.which(daemon) is None]
    return f"SLURM: not installed: {', '.join(absent)}" if absent else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    """A daemon must not outlive the tests, however they end."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _kill_all(chosen: Callable[[set[str]], bool]) -> None:
    """SIGKILL the processes whose environment is chosen, except this one."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            environment = set(path.read_bytes().decode(errors="replace").split("\0"))
            if chosen(environment) and int(path.parent.name) != os.getpid():
                os.kill(int(path.parent.name), signal.SIGKILL)


class Cluster:
    """The running cluster: its daemons, and questions to it.

    Attributes
    ----------
    environment : what commands need in order to find the cluster
    """

    def __init__(self, folder: Path, accounting: bool):
        self.folder = folder
        self.accounting = accounting
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "COLLAPSEFLOW_TEST_CLUSTER": str(folder),
        }
        self.daemons: dict[str, subprocess.Popen] = {}
        self._configure()

    def _configure(self) -> None:
        host, folder = socket.gethostname().split(".")[0], self.folder
        ports = {name: _free_port() for name in ("ctld_port", "dbd_port", "db_port")}
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs=4 "
            f"RealMemory=64000 State=UNKNOWN" + (f" Gres=gpu:{GPU_MODEL}:{gpus}" if gpus else "")
            for name, gpus in NODES.items()
        ]
        gres = []
        for name, gpus in NODES.items():
            for number in range(gpus):
                device = folder / f"{name}-gpu{number}"
                device.touch()
                gres.append(f"NodeName={name} Name=gpu Type={GPU_MODEL} File={device}")
        accounting = (
            ACCOUNTING.format(folder=folder, **ports)
            if self.accounting
            else "AccountingStorageType=accounting_storage/none"
        )
        values = {"host": host, "folder": folder, **ports}
        configuration = CONFIGURATION.format(
            **values, accounting=accounting, nodes="\n".join(nodes)
        )
        (folder / "slurm.conf").write_text(configuration)
        (folder / "gres.conf").write_text("\n".join(gres) + "\n")
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        if self.accounting:
            path = folder / "slurmdbd.conf"
            path.write_text(DATABASE_DAEMON.format(**values))
            path.chmod(0o600)
        self.database_port = ports["db_port"]

    def start(self) -> None:
        """Start all daemons; return when all nodes are idle."""
        SYSTEM_CONFIGURATION.parent.mkdir(exist_ok=True)
        SYSTEM_CONFIGURATION.unlink(missing_ok=True)  # dangling: of tests that were killed
        SYSTEM_CONFIGURATION.symlink_to(self.folder / "slurm.conf")
        (self.folder / "state").mkdir()
        for name in NODES:
            (self.folder / f"spool-{name}").mkdir()
        self._start_munge()
        if self.accounting:
            self._start_database()
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self._wait("nodes that are idle", lambda: self._idle_nodes() == len(NODES))

    def stop(self) -> None:
        """Stop all daemons and whatever jobs still run."""
        SYSTEM_CONFIGURATION.unlink(missing_ok=True)
        for daemon in reversed(self.daemons.values()):
            daemon.kill()
            daemon.wait()
        # Job steps are no children of ours; they carry the cluster in their environment.
        _kill_all(lambda environment: f"COLLAPSEFLOW_TEST_CLUSTER={self.folder}" in environment)

    def start_controller(self) -> None:
        """Start slurmctld, for the first time or again."""
        self._start("slurmctld", ["slurmctld", "-D"])
        self._wait("slurmctld", lambda: self.ask("scontrol", "ping", check=False).count("UP"))

    def start_node(self, name: str) -> None:
        """Start a node's slurmd, for the first time or again."""
        self._start(name, ["slurmd", "-D", "-N", name])

    def kill(self, name: str) -> None:
        """SIGKILL a daemon: ``slurmctld`` or a node."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def kill_processes(self, job: str) -> None:
        """SIGKILL everything of a job, SLURM's own step daemons first: nobody tells of its end."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if path.read_bytes().startswith(f"slurmstepd: [{job}.".encode()):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        _kill_all(
            lambda environment: (
                {
                    f"COLLAPSEFLOW_TEST_CLUSTER={self.folder}",
                    f"SLURM_JOB_ID={job}",
                }
                <= environment
            )
        )

    def ask(self, *command: str, check: bool = True) -> str:
        """What a SLURM command prints."""
        answer = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if check and answer.returncode:
            raise RuntimeError(f"{' '.join(command)}: {answer.stderr}")
        return answer.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job that the controller remembers, as ``scontrol show job`` describes it."""
        jobs = []
        for line in self.ask("scontrol", "--oneliner", "show", "job").splitlines():
            pairs = (item.partition("=") for item in line.split())
            job = {key: value for key, _, value in pairs}
            if "JobId" in job:
                jobs.append(job)
        return jobs

    def _idle_nodes(self) -> int:
        return (
            self.ask("sinfo", "--noheader", "--Node", "--format=%t", check=False)
            .split()
            .count("idle")
        )

    def _start(self, name: str, command: list[str], **options) -> None:
        log = open(self.folder / f"{name}.out", "ab")  # noqa: SIM115
        self.daemons[name] = subprocess.Popen(
            command,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
            **options,
        )
        log.close()

    def _wait(self, what: str, ready: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = [
                    f"--- {name}\n" + (self.folder / f"{name}.out").read_text(errors="replace")
                    for name in self.daemons
                ]
                raise RuntimeError(f"no {what}; ended: {dead}\n" + "\n".join(logs))
            time.sleep(0.2)

    def _start_munge(self) -> None:
        # munged trusts no folder and no key that others could change; user and socket are its own.
        folder, user = self.folder / "munge", "munge"
        folder.mkdir(mode=0o700)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (folder, key):
            shutil.chown(path, user, user)
        command = ["munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket"]
        command += [f"--key-file={key}", f"--pid-file={folder}/pid", f"--log-file={folder}/log"]
        command += [f"--seed-file={folder}/seed"]
        self._start("munged", command, user=user, group=user, extra_groups=[])
        self._wait("munged", (self.folder / "munge.socket").exists)

    def _start_database(self) -> None:
        data, user = self.folder / "database", "mysql"
        data.mkdir()
        shutil.chown(data, user, user)
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={user}"]
            + ["--auth-root-authentication-method=normal"],
            check=True,
            capture_output=True,
        )
        server = f"--socket={data}/socket"
        command = ["mariadbd", "--no-defaults", f"--datadir={data}", server, f"--user={user}"]
        command += [f"--port={self.database_port}", "--bind-address=127.0.0.1"]
        command += [f"--pid-file={data}/pid", "--innodb-flush-log-at-trx-commit=0"]
        self._start("mariadbd", command)
        client = ["mariadb", "--no-defaults", server, "--user=root", "--execute"]
        users = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm'; "
        users += "CREATE USER slurm@localhost IDENTIFIED BY 'slurm'; "
        users += "GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1', slurm@localhost;"

        def answers(statement: str) -> bool:
            return not subprocess.run([*client, statement], capture_output=True).returncode

        self._wait("mariadbd", lambda: answers("SELECT 1"))
        if not answers(users):
            raise RuntimeError("the database refuses to make a user")
        self._start("slurmdbd", ["slurmdbd", "-D"])
        cluster = ("sacctmgr", "--immediate", "add", "cluster", "test")
        self._wait("slurmdbd", lambda: "test" in self.ask(*cluster, check=False) or self._known())
        self.ask("sacctmgr", "--immediate", "add", "account", "thesis", "Description=test")
        self.ask("sacctmgr", "--immediate", "add", "user", "root", "Account=thesis")

    def _known(self) -> bool:
        return "test" in self.ask(
            "sacctmgr",
            "--noheader",
            "--parsable2",
            "show",
            "cluster",
            "format=cluster",
            check=False,
        )


@contextmanager
def cluster(accounting: bool = False) -> Iterator[Cluster]:
    """A running cluster for the time of the block."""
    with ExitStack() as stack:
        # Not below pytest's folder: munge's user must reach it, and a socket's path be short.
        folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        folder.chmod(0o777)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        running = Cluster(folder, accounting)
        stack.callback(running.stop)
        running.start()
        yield running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounting", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    reason = missing(arguments.accounting)
    if reason:
        print(reason, file=sys.stderr)
        return 1
    with cluster(arguments.accounting) as running:
        return subprocess.run(arguments.command, env=running.environment, check=False).returncode


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
