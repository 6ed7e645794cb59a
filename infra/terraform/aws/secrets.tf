# Secrets by name. The functions read them when they run; their values are in neither plan nor state.

locals {
  existing_arns = { for secret, arn in var.existing_secrets : secret => split("#", arn)[0] }
  made_arns     = { for secret, made in aws_secretsmanager_secret.setting : secret => made.arn }

  # ARNs that a job's role may read, and the references that stand in its environment: by job.
  secret_arns = {
    for job in local.jobs : job => [for secret in local.secrets : merge(local.made_arns, local.existing_arns)[secret] if startswith(secret, "${job}/")]
  }
  secret_references = {
    for job in local.jobs : job => {
      for secret in local.secrets : trimprefix(secret, "${job}/") => merge(local.made_arns, var.existing_secrets)[secret] if startswith(secret, "${job}/")
    }
  }
}

resource "aws_secretsmanager_secret" "setting" {
  for_each = local.made_secrets

  name        = "${var.name}/${each.key}"
  description = "flagedge: ${each.key}"
  kms_key_id  = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "setting" {
  for_each = var.secret_versions

  secret_id                = aws_secretsmanager_secret.setting[each.key].id
  secret_string_wo         = var.secret_values[each.key]
  secret_string_wo_version = each.value
}
