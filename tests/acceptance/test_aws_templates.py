"""The templates deployed on the local AWS, and what they made at work: function, role, stream, bucket, task, tables.

docs/aws.md tells of each resource whether it was created; the test holds the table against what it saw.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg2.extensions
import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.sandbox.processes import Daemon, free_port
from consumers.kcl.leases import LeaseTable
from consumers.worker.status import read_reports
from tests.acceptance.conftest import run_cdcctl
from tests.chaos.test_kit import wait_until
from tests.support.iam import pairs
from tests.support.lambda_package import ARCH, VERSION, Package
from tests.support.local_aws import Cloud
from tests.support.postgres import Database

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PLANTED = "pl4nted-s3cret"
NOT_THERE = {"AWS::EC2::SecurityGroupIngress"}
"""Types that the local AWS refuses a template for."""


@dataclass
class Deployed:
    """The stacks, and what became of each type of resource."""

    name: str
    seen: dict[str, str] = field(default_factory=dict)

    def stack(self, template: str, **parameters: str) -> dict[str, str]:
        """Create a stack and return its outputs."""
        client = boto3.client("cloudformation")
        named: Any = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        name = f"{self.name}-{template}"
        body, left_out = adapted((DEPLOY / f"{template}.yaml").read_text())
        self.seen |= dict.fromkeys(left_out, "only linted")
        client.create_stack(
            StackName=name,
            TemplateBody=body,
            Parameters=named,
            Capabilities=["CAPABILITY_IAM"],
        )
        deadline = time.monotonic() + 120
        while (stack := client.describe_stacks(StackName=name)["Stacks"][0])["StackStatus"].endswith("IN_PROGRESS"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        events = client.describe_stack_events(StackName=name)["StackEvents"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", [one.get("ResourceStatusReason") for one in events]
        for one in client.describe_stack_resources(StackName=name)["StackResources"]:
            assert one["ResourceStatus"] == "CREATE_COMPLETE"
            self.seen[one["ResourceType"]] = "created"
        return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}


def adapted(text: str) -> tuple[str, set[str]]:
    """The template without what the local AWS does not know; and with a number where it takes no reference."""
    blocks = re.split(r"(?m)^(?=  \w+:\n    Type: )", text)
    left_out = {kind for block in blocks for kind in NOT_THERE if f"Type: {kind}\n" in block}
    kept = "".join(block for block in blocks if not any(f"Type: {kind}\n" in block for kind in left_out))
    return kept.replace("DesiredCount: !Ref Tasks", "DesiredCount: 0"), left_out


def policy_of(role: str, name: str) -> dict[str, Any]:
    document: Any = boto3.client("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    found: dict[str, Any] = json.loads(document) if isinstance(document, str) else document
    return found


def resource_of(stack: str, logical: str) -> str:
    client = boto3.client("cloudformation")
    answer = client.describe_stack_resource(StackName=stack, LogicalResourceId=logical)
    return answer["StackResourceDetail"]["PhysicalResourceId"]


def printed(environ: Mapping[str, str], folder: Path, *arguments: str) -> set[tuple[str, str, str]]:
    made = run_cdcctl("aws", "policy", *arguments, environ=environ, folder=folder)
    assert made.returncode == 0, made.stderr
    return set(pairs(json.loads(made.stdout)))


def network() -> dict[str, str]:
    """What an account has before: a VPC, a subnet, the instance's security group."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="source", Description="source", VpcId=vpc)["GroupId"]
    return {"VpcId": vpc, "SubnetIds": subnet, "DatabaseSecurityGroupId": group}


def login_by_the_sql(postgres: Database) -> str:
    """The replication user as the docs make it; returns where it logs in, without a password."""
    user = f"cdc_{postgres.slot}"
    command = ["psql", postgres.dsn, "-q", "-v", f"user={user}", "-v", f"database={postgres.slot}"]
    for _ in range(2):  # a second time changes nothing
        subprocess.run([*command, "-f", str(DEPLOY / "replication-user.sql")], check=True)
    postgres.run(f"ALTER ROLE {user} PASSWORD '{PLANTED}'")
    return user


@pytest.fixture
def deployed(stream: str) -> Deployed:
    return Deployed(stream)


def test_what_the_templates_make_works(
    postgres: Database, cloud: Cloud, deployed: Deployed, package: Package, tmp_path: Path
) -> None:
    name = f"{deployed.name}x"
    base = deployed.stack("base", StreamName=name, StreamMode="PROVISIONED", ObjectLockDays="1", AlarmEmail="a@b.c")
    deployed.stack("database")
    places = network()
    secret = secret_of(login_by_the_sql(postgres), name)
    boto3.client("s3").upload_file(str(package.zip), base["BucketName"], "producer.zip")
    parts = psycopg2.extensions.parse_dsn(postgres.dsn)
    deployed.stack(
        "producer", FunctionName=name, CodeBucket=base["BucketName"], CodeKey="producer.zip",
        Runtime=f"python{VERSION}", Architecture=ARCH, StreamName=name, SlotName=postgres.slot,
        SecretArn=secret, IdleSeconds="1", OversizeBucket=base["BucketName"], AlarmTopicArn=base["AlarmTopic"],
        Dsn=f"host={parts['host']} port={parts['port']} dbname={postgres.slot}", **places,
    )  # fmt: skip
    lake = f'[consumers.parquet]\nurl = "s3://{base["BucketName"]}/lake"\nflush_seconds = 0.5\n'
    del places["DatabaseSecurityGroupId"]
    deployed.stack(
        "consumer", AppPrefix=name, StreamName=name, Image="cdckit", ClusterName=base["ClusterName"], Config=lake,
        LakeBucket=base["BucketName"], DeadLetterBucket=base["BucketName"], OversizeBucket=base["BucketName"],
        AlarmTopicArn=base["AlarmTopic"], **places,
    )  # fmt: skip
    deployed.stack(
        "alarms", StreamName=name, FunctionName=name, DatabaseInstanceId="x", AlarmTopicArn=base["AlarmTopic"]
    )

    function = invoke(name)
    assert function["status"] == "relayed", function
    postgres.run("CREATE TABLE t (id integer PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")
    assert invoke(name)["changes"] == 100
    with consumer_by_its_task(name, cloud, tmp_path) as running:
        wait_until(lambda: sum(report.applied for report in read_reports(tmp_path, "parquet")) >= 100, 120, running)
    made = boto3.client("s3").list_objects_v2(Bucket=base["BucketName"], Prefix="lake/main/public/t/")
    assert made["KeyCount"] > 0
    assert LeaseTable(f"{name}-parquet").read()

    common = {
        **cloud.environ, "CDC_STREAM": name, "CDC_OVERSIZE": f"s3://{base['BucketName']}/oversize",
        "CDC_APP_PREFIX": name, "CDC_DEAD_LETTERS": f"s3://{base['BucketName']}/dead-letters", "CDC_DSN_SECRET": secret,
    }  # fmt: skip
    (tmp_path / "cdc.toml").write_text(lake)
    must_be_the_printed_ones(deployed, common, tmp_path)
    must_be_told_in_the_docs(deployed.seen)
    must_not_tell_the_secret(deployed, name)


def secret_of(user: str, name: str) -> str:
    text = json.dumps({"username": user, "password": PLANTED})
    return boto3.client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"]


def invoke(name: str) -> dict[str, Any]:
    """Run the deployed function, by the local AWS's own Lambda."""
    answer: dict[str, Any] = json.loads(boto3.client("lambda").invoke(FunctionName=name)["Payload"].read())
    return answer


@contextmanager
def consumer_by_its_task(name: str, cloud: Cloud, folder: Path) -> Iterator[ChildProcesses]:
    """The deployed task's command and variables, run here by the image's entry point: there are no containers."""
    task = boto3.client("ecs").describe_task_definition(taskDefinition=f"{name}-parquet")["taskDefinition"]
    [container] = task["containerDefinitions"]
    given = {one["name"]: one["value"] for one in container["environment"]}
    given |= {
        "CDC_DATA": str(folder),
        "TMPDIR": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    parts = ChildProcesses(folder / "logs", {**os.environ, **cloud.environ, **given})
    parts.logs.mkdir()
    command = [str(DEPLOY / "entrypoint.sh"), *container["command"]]
    command[command.index("9402")] = str(free_port())
    parts.running["parquet"] = Daemon.spawn(command, parts.logs / "parquet.log", parts.environ, folder)
    try:
        yield parts
    finally:
        parts.stop()
    assert (folder / "cdc.toml").stat().st_mode & 0o077 == 0


def must_be_the_printed_ones(deployed: Deployed, environ: Mapping[str, str], folder: Path) -> None:
    """The roles' policies in the templates are what ``cdcctl aws policy`` prints for the same settings."""
    for part, *name in (("producer",), ("consumer", "parquet")):
        role = resource_of(f"{deployed.name}-{part}", "Role")
        assert set(pairs(policy_of(role, part))) == printed(environ, folder, part, *name)


def must_be_told_in_the_docs(seen: Mapping[str, str]) -> None:
    rows = re.findall(r"(?m)^\| `(AWS::[\w:]+)` \| (created|only linted)", (ROOT / "docs" / "aws.md").read_text())
    assert dict(rows) == seen


def must_not_tell_the_secret(deployed: Deployed, name: str) -> None:
    for text in everything_told(deployed, name):
        assert PLANTED not in text


def everything_told(deployed: Deployed, name: str) -> Iterator[str]:
    """Stacks with their parameters and events, the function's configuration, and all logs."""
    client, logs = boto3.client("cloudformation"), boto3.client("logs")
    for template in ("base", "database", "producer", "consumer", "alarms"):
        stack = f"{deployed.name}-{template}"
        yield str(client.describe_stacks(StackName=stack))
        yield str(client.describe_stack_events(StackName=stack))
        yield str(client.get_template(StackName=stack))
    yield str(boto3.client("lambda").get_function_configuration(FunctionName=name))
    yield str(boto3.client("ecs").describe_task_definition(taskDefinition=f"{name}-parquet"))
    events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    assert any("status=relayed" in event["message"] for event in events), "the function's log is to be looked through"
    yield str(events)
