# Handed on to the two parts, which validate them.

variable "name" {
  description = "Put before the names of everything that is made here."
  type        = string
  default     = "flagedge"
}

variable "packages" {
  description = "The functions' zips, as `make package` writes them into dist/. `log_consumer` may be null: then the consumer runs elsewhere."
  type = object({
    sync_job     = string
    log_consumer = optional(string)
  })
}

variable "architecture" {
  description = "What the zips were built for: `arm64` (cheaper by a fifth) or `x86_64`."
  type        = string
  default     = "arm64"
}

variable "cloudflare_account_id" {
  description = "The Cloudflare account that the Worker runs in."
  type        = string
}

variable "worker_name_prefix" {
  description = "The setting WORKER_NAME_PREFIX of both jobs; empty for none."
  type        = string
  default     = ""
}

variable "resources_owner" {
  description = "Who makes queues, pull consumer and KV namespaces at Cloudflare: `terraform` (then sync-job refuses to), or `sync-job`."
  type        = string
  default     = "terraform"
}

variable "sticky_assignments" {
  description = "Whether the Worker keeps sticky assignments, in a KV namespace."
  type        = bool
  default     = false
}

variable "worker_metrics" {
  description = "Whether the Worker answers `GET /metrics`, from a KV namespace."
  type        = bool
  default     = false
}

variable "publish" {
  description = "How new states reach the Worker: `deploy`, each as a version of it, or `kv`, by way of a KV namespace, with a version once an hour."
  type        = string
  default     = "deploy"
}

variable "rules_ttl_ms" {
  description = "With `publish = \"kv\"`, how often each isolate of the Worker looks for a newer state, in milliseconds."
  type        = number
  default     = 30000
}

variable "max_blast_radius" {
  description = "A run deploys no state by itself that changes the answers to a flag for a larger share of units, 0 to 1; null for any."
  type        = number
  default     = null
}

variable "pages" {
  description = "Pages that the Worker serves in front of an origin (docs/pages.md): flags by path, such as {\"/shop/*\" = [\"checkout\"]}, sources by attribute, such as {country = \"cf:country\"}. A source `signed:` wants the secret sync-job/PAGE_ATTRIBUTE_KEYS. Null for none."
  type = object({
    flags   = map(list(string))
    context = optional(map(string), {})
    origin  = optional(string, "")
    cookie  = optional(string, "")
    client  = optional(string, "")
    access  = optional(object({ team = string, audience = string }))
  })
  default = null
}

variable "message_retention_s" {
  description = "How long flag logs wait in the queue for a consumer, in seconds. Free plans allow 86400 only."
  type        = number
  default     = 345600
}

variable "create_api_tokens" {
  description = "Whether to make one API token for each job, with the permissions that it needs. Their values then stand in Terraform's state, for the provider has no other way: encrypt it."
  type        = bool
  default     = false
}

variable "sync" {
  description = "How sync-job runs. `settings` are further settings by their names in docs/settings.md; what is secret goes into `more_secrets` or `existing_secrets`, which alone the function may read."
  type = object({
    schedule_minutes = optional(number, 1)
    timeout_s        = optional(number, 120)
    memory_mb        = optional(number, 1024)
    settings         = optional(map(string), {})
  })
  default = {}
}

variable "consumer" {
  description = "How log-consumer runs. A run that is over its time ends well, and the next one goes on; so `timeout_s` stays below the schedule. `maintain_at_utc` is when the lake is put in order: minute, hour, day, month, weekday, year."
  type = object({
    schedule_minutes = optional(number, 5)
    timeout_s        = optional(number, 270)
    memory_mb        = optional(number, 2048)
    scratch_mb       = optional(number, 2048)
    maintain_at_utc  = optional(string, "17 3 * * ? *")
    settings         = optional(map(string), {})
  })
  default = {}
}

variable "forward" {
  description = "Whether log-consumer forwards flag logs to Confidence. Its setting CONFIDENCE_ACCOUNT, in `consumer.settings`, adds the destination that the official Worker has."
  type        = bool
  default     = true
}

variable "catalogue" {
  description = "The Postgres database that holds the lake's catalogue; needed with packages.log_consumer. Its password is the secret log-consumer/DATABASE_PASSWORD."
  type = object({
    host     = string
    port     = optional(number, 5432)
    database = string
    user     = string
    sslmode  = optional(string, "require")
  })
  default = null
}

variable "network" {
  description = "Where the consumer runs when the catalogue is private: subnets with a way to the internet (a NAT gateway) and security groups that the catalogue lets in. Null runs it outside any VPC."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
}

variable "more_secrets" {
  description = "Further secrets to make, as JOB/SETTING, such as sync-job/STATE_ENCRYPTION_KEY."
  type        = set(string)
  default     = []
}

variable "existing_secrets" {
  description = "Secrets that exist, which are not made here: ARN in Secrets Manager by JOB/SETTING. `#KEY` behind the ARN takes one key out of a JSON object."
  type        = map(string)
  default     = {}
}

variable "secret_values" {
  description = "Values of secrets that are made here, by JOB/SETTING; they are in neither plan nor state. Only those are written that `secret_versions` names."
  type        = map(string)
  default     = {}
  ephemeral   = true
  sensitive   = true
}

variable "secret_versions" {
  description = "Which values of `secret_values` are written: a number by JOB/SETTING. Another number writes the value again. Secrets that are not named here are filled by other means."
  type        = map(number)
  default     = {}
}

variable "bucket_name" {
  description = "The bucket for states, the lake, the lease and the functions' zips; null names it by account and region."
  type        = string
  default     = null
}

variable "noncurrent_days" {
  description = "How long the bucket keeps objects that were overwritten or deleted. What is erased from the lake on request is gone only then."
  type        = number
  default     = 30
}

variable "kms_key_arn" {
  description = "A key of your own for bucket, secrets, log groups, dead letters, environment and notifications; null uses what AWS manages. Its policy has to let logs, SNS, CloudWatch and the scheduler use it."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "How long the functions' logs are kept."
  type        = number
  default     = 30
}

variable "log_level" {
  description = "The setting LOG_LEVEL of both jobs."
  type        = string
  default     = "info"
}

variable "is_enabled" {
  description = "Whether the schedules run. Off, nothing is called; what is live at Cloudflare goes on."
  type        = bool
  default     = true
}

variable "alarm_emails" {
  description = "Who is told by e-mail. AWS asks each of them to confirm."
  type        = set(string)
  default     = []
}

variable "alarms" {
  description = "When alarms go off: no run confirmed the live state for `unconfirmed_minutes`; `failed_runs` runs in a row failed; the backlog grew through `backlog_minutes` and holds `backlog_messages`, or nobody said what it holds; `delivery_gap_messages` messages are missing."
  type = object({
    unconfirmed_minutes   = optional(number, 15)
    failed_runs           = optional(number, 3)
    backlog_minutes       = optional(number, 30)
    backlog_messages      = optional(number, 10000)
    delivery_gap_messages = optional(number, 1)
  })
  default = {}
}
