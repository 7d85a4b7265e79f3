"""Checks the settings that logical replication needs on Amazon RDS, in addition to those of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdcctl.doctor.finding import Finding, failed, ok, unknown, warning
from cdckit.runtime.settings import Settings
from producer.postgres.dsn import server_host

_SUFFIXES = (".rds.amazonaws.com", ".rds.amazonaws.com.cn")


def check_rds(settings: Settings, make_client: Callable[[], Any] = lambda: boto3.client("rds")) -> Iterator[Finding]:
    """Check the RDS instance; no findings when the source is not one."""
    host = server_host(settings.dsn)
    if not host.endswith(_SUFFIXES):
        return
    try:
        client = make_client()
        instance = _instance(client, host)
        if instance is None:
            yield unknown("rds", f"no instance of this account and region has the endpoint {host}", "check AWS_REGION")
            return
        yield from _check_instance(instance, _parameters(client, instance))
    except (ClientError, BotoCoreError) as error:
        yield unknown("rds", str(error), "allow rds:DescribeDBInstances and rds:DescribeDBParameters to check it")


def _instance(client: Any, host: str) -> Mapping[str, Any] | None:
    pages = client.get_paginator("describe_db_instances").paginate()
    instances = (instance for page in pages for instance in page["DBInstances"])
    return next((found for found in instances if found.get("Endpoint", {}).get("Address") == host), None)


def _parameters(client: Any, instance: Mapping[str, Any]) -> Mapping[str, str]:
    group = instance["DBParameterGroups"][0]["DBParameterGroupName"]
    pages = client.get_paginator("describe_db_parameters").paginate(DBParameterGroupName=group)
    parameters = (parameter for page in pages for parameter in page["Parameters"])
    return {parameter["ParameterName"]: parameter.get("ParameterValue", "") for parameter in parameters}


def _check_instance(instance: Mapping[str, Any], parameters: Mapping[str, str]) -> Iterator[Finding]:
    name, group = instance["DBInstanceIdentifier"], instance["DBParameterGroups"][0]
    yield ok("rds", f"instance {name}, parameter group {group['DBParameterGroupName']}")
    if not instance.get("BackupRetentionPeriod"):
        yield failed(
            "rds backups", "automated backups are off: RDS then sets wal_level to minimal",
            f"aws rds modify-db-instance --db-instance-identifier {name} --backup-retention-period 7 "
            "--apply-immediately",
        )  # fmt: skip
    if group.get("ParameterApplyStatus") == "pending-reboot":
        fix = f"aws rds reboot-db-instance --db-instance-identifier {name}"
        yield failed("rds parameter group", "changed, and pending a reboot", fix)
    if parameters.get("rds.logical_replication") != "1":
        yield failed(
            "rds.logical_replication", parameters.get("rds.logical_replication") or "not set",
            "set it to 1 in a custom parameter group of the instance (see deploy/), then reboot",
        )  # fmt: skip
    if instance.get("IAMDatabaseAuthenticationEnabled") and parameters.get("rds.iam_auth_for_replication") != "1":
        yield warning(
            "rds.iam_auth_for_replication", "IAM authentication is on, but not for replication connections",
            "set it to 1 in the parameter group if the producer uses IAM authentication",
        )  # fmt: skip
