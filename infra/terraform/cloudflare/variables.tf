variable "account_id" {
  description = "The Cloudflare account that the Worker runs in."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{32}$", var.account_id))
    error_message = "The account id is 32 hexadecimal digits; the dashboard's URL shows it."
  }
}

variable "worker_name_prefix" {
  description = "Put before the names of queues and KV namespaces, as the setting WORKER_NAME_PREFIX of both jobs; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?$", var.worker_name_prefix))
    error_message = "The prefix is up to 32 lower-case letters, digits and hyphens, without a hyphen at either end."
  }
}

variable "resources_owner" {
  description = "Who makes queues, pull consumer and KV namespaces: `terraform`, or `sync-job`, which then makes them at its first run."
  type        = string
  default     = "terraform"

  validation {
    condition     = contains(["terraform", "sync-job"], var.resources_owner)
    error_message = "The owner is \"terraform\" or \"sync-job\"."
  }
}

variable "sticky_assignments" {
  description = "Whether there is a KV namespace for sticky assignments."
  type        = bool
  default     = false
}

variable "worker_metrics" {
  description = "Whether there is a KV namespace for the Worker's `GET /metrics`."
  type        = bool
  default     = false
}

variable "publish" {
  description = "How new states reach the Worker: `deploy`, or `kv`, for which there is a KV namespace."
  type        = string
  default     = "deploy"

  validation {
    condition     = contains(["deploy", "kv"], var.publish)
    error_message = "New states are published by \"deploy\" or \"kv\"."
  }
}

variable "message_retention_s" {
  description = "How long flag logs wait in the queue for a consumer, in seconds. Free plans allow 86400 only."
  type        = number
  default     = 345600

  validation {
    condition     = var.message_retention_s >= 60 && var.message_retention_s <= 1209600
    error_message = "A queue keeps messages from 60 seconds to 14 days (1209600)."
  }
}

variable "create_api_tokens" {
  description = "Whether to make one API token for each job, with the permissions that it needs. Their values then stand in Terraform's state, for the provider has no other way: encrypt it."
  type        = bool
  default     = false
}
