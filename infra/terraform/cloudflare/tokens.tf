# An API token for each job, with what it needs and no more: a token that can only pull cannot change the Worker.

locals {
  permissions = {
    sync-job     = ["Workers Scripts Write", "Queues Write", "Workers KV Storage Write"]
    log-consumer = ["Queues Write"]
  }
  token_permissions = { for job, names in local.permissions : job => names if var.create_api_tokens }

  # By name; empty where no token is made, for then nobody asks.
  permission_groups = {
    for group in flatten(data.cloudflare_account_api_token_permission_groups_list.all[*].result) : group.name => group.id...
  }
}

data "cloudflare_account_api_token_permission_groups_list" "all" {
  count = var.create_api_tokens ? 1 : 0

  account_id = var.account_id
  max_items  = 1000
}

resource "cloudflare_account_token" "job" {
  for_each = local.token_permissions

  account_id = var.account_id
  name       = "${local.prefix}flagedge-${each.key}"
  policies = [{
    effect            = "allow"
    permission_groups = [for name in each.value : { id = local.permission_groups[name][0] }]
    resources         = jsonencode({ "com.cloudflare.api.account.${var.account_id}" = "*" })
  }]
}
