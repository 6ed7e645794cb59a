output "queue_name" {
  description = "The flag-logs queue, whoever makes it."
  value       = local.queue_name
}

output "queue_id" {
  description = "The id of the flag-logs queue; null where sync-job makes it."
  value       = one(cloudflare_queue.flag_logs[*].queue_id)
}

output "kv_namespace_ids" {
  description = "The KV namespaces that were made here: id by title."
  value       = { for namespace in cloudflare_workers_kv_namespace.worker : namespace.title => namespace.id }
}

output "api_tokens" {
  description = "API tokens by job, if they were made here."
  value       = { for job, token in cloudflare_account_token.job : job => token.value }
  sensitive   = true
}

output "api_token_versions" {
  description = "A number by job that changes with its token, for `secret_versions`: a token that was made anew is written anew."
  value       = { for job, token in cloudflare_account_token.job : job => parseint(substr(sha256(token.id), 0, 12), 16) }
}
