# What the Worker stands on. The Worker itself is sync-job's, and so are its routes and its address: Cloudflare refuses a
# route to a script that does not exist yet.

locals {
  prefix     = var.worker_name_prefix == "" ? "" : "${var.worker_name_prefix}-"
  queue_name = "${local.prefix}flag-logs-queue"
  is_owner   = var.resources_owner == "terraform"

  pull_settings = {
    batch_size            = 100
    visibility_timeout_ms = 60000
    max_retries           = 100
    retry_delay           = 10
  }

  wanted_namespaces = {
    resolver-materializations = var.sticky_assignments
    resolver-metrics          = var.worker_metrics
    resolver-state            = var.publish == "kv"
  }
  namespaces = toset([for title, is_wanted in local.wanted_namespaces : title if is_wanted && local.is_owner])
}

resource "cloudflare_queue" "flag_logs" {
  count = local.is_owner ? 1 : 0

  account_id = var.account_id
  queue_name = local.queue_name
  settings = {
    message_retention_period = var.message_retention_s
  }
}

resource "cloudflare_queue" "dead_letters" {
  count = local.is_owner ? 1 : 0

  account_id = var.account_id
  queue_name = "${local.queue_name}-dlq"
  settings = {
    message_retention_period = var.message_retention_s
  }
}

resource "cloudflare_queue_consumer" "pull" {
  count = local.is_owner ? 1 : 0

  account_id        = var.account_id
  queue_id          = cloudflare_queue.flag_logs[0].queue_id
  type              = "http_pull"
  dead_letter_queue = cloudflare_queue.dead_letters[0].queue_name
  settings          = local.pull_settings
}

# log-consumer empties the dead-letter queue as well. What it cannot read it keeps, so nothing is given up here.
resource "cloudflare_queue_consumer" "dead_letters" {
  count = local.is_owner ? 1 : 0

  account_id = var.account_id
  queue_id   = cloudflare_queue.dead_letters[0].queue_id
  type       = "http_pull"
  settings   = local.pull_settings
}

resource "cloudflare_workers_kv_namespace" "worker" {
  for_each = local.namespaces

  account_id = var.account_id
  title      = "${local.prefix}${each.key}"
}
