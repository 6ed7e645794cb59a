# Secrets by name. The functions read them when they run; their values are in neither plan nor state.

locals {
  required_secrets = {
    sync-job     = ["CLOUDFLARE_API_TOKEN", "CONFIDENCE_CLIENT_SECRET"]
    log-consumer = ["CLOUDFLARE_API_TOKEN", "DATABASE_PASSWORD"]
  }
  secrets = setunion(
    flatten([for job in local.jobs : [for setting in local.required_secrets[job] : "${job}/${setting}"]]),
    var.more_secrets,
    keys(var.existing_secrets),
  )
  made_secrets = setsubtract(local.secrets, keys(var.existing_secrets))

  # Which secret is which setting of a job. Both jobs know the client's.
  secrets_of = {
    sync-job = { for secret in local.secrets : trimprefix(secret, "sync-job/") => secret if startswith(secret, "sync-job/") }
    log-consumer = merge(
      var.forward ? { CONFIDENCE_CLIENT_SECRET = "sync-job/CONFIDENCE_CLIENT_SECRET" } : {},
      { for secret in local.secrets : trimprefix(secret, "log-consumer/") => secret if startswith(secret, "log-consumer/") },
    )
  }
  references = merge({ for secret, made in aws_secretsmanager_secret.setting : secret => made.arn }, var.existing_secrets)

  # What stands in a job's environment, and what its role may read: the latter without a JSON key.
  secret_references = {
    for job in local.jobs : job => { for setting, secret in local.secrets_of[job] : setting => local.references[secret] }
  }
  secret_arns = { for job in local.jobs : job => distinct([for reference in values(local.secret_references[job]) : split("#", reference)[0]]) }
}

resource "aws_secretsmanager_secret" "setting" {
  # checkov:skip=CKV2_AWS_57:Cloudflare and Confidence issue these; no function of AWS can renew them
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
