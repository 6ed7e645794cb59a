# Secrets by name. The functions read them when they run; their values are in neither plan nor state.

locals {
  required_secrets = {
    sync-job     = ["CLOUDFLARE_API_TOKEN", "CONFIDENCE_CLIENT_SECRET"]
    log-consumer = ["CLOUDFLARE_API_TOKEN", "DATABASE_PASSWORD"]
  }
  # What is asked for makes these necessary.
  wanted_secrets = {
    "sync-job/STATE_MAC_KEY"       = var.publish == "kv"
    "sync-job/PAGE_ATTRIBUTE_KEYS" = local.has_signed
  }
  secrets = setunion(
    flatten([for job in local.jobs : [for setting in local.required_secrets[job] : "${job}/${setting}"]]),
    [for secret, is_wanted in local.wanted_secrets : secret if is_wanted],
    var.more_secrets,
    keys(var.existing_secrets),
  )
  made_secrets = setsubtract(local.secrets, keys(var.existing_secrets))

  # A key that nobody has to know is made up where none is given. No number of `secret_versions` is to be this one.
  generated_version = -1
  generated_secrets = { for secret in local.made_secrets : secret => local.generated_version if secret == "sync-job/STATE_MAC_KEY" }

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
  for_each = merge(local.generated_secrets, var.secret_versions)

  secret_id = aws_secretsmanager_secret.setting[each.key].id
  # Base64 of 32 bytes; another one at each plan, of which only that of a new version is written.
  secret_string_wo         = contains(keys(var.secret_versions), each.key) ? var.secret_values[each.key] : base64sha256("${uuid()}${uuid()}")
  secret_string_wo_version = each.value
}
