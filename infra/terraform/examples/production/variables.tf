variable "region" {
  description = "The AWS region."
  type        = string
}

variable "cloudflare_account_id" {
  description = "The Cloudflare account that the Worker runs in."
  type        = string
}

variable "packages" {
  description = "The functions' zips."
  type = object({
    sync_job     = string
    log_consumer = string
  })
  default = {
    sync_job     = "../../../../dist/sync-job-arm64.zip"
    log_consumer = "../../../../dist/log-consumer-arm64.zip"
  }
}

variable "private_subnet_ids" {
  description = "Subnets of your VPC with a route to a NAT gateway (Cloudflare) and a gateway endpoint for S3 (the lake)."
  type        = list(string)
}

variable "consumer_security_group_ids" {
  description = "Security groups of the consumer: outbound TCP 443 to anywhere, and 5432 to the catalogue."
  type        = list(string)
}

variable "catalogue_security_group_ids" {
  description = "Security groups of the catalogue: inbound TCP 5432 from the consumer's, and nothing else."
  type        = list(string)
}

variable "catalogue_subnet_group" {
  description = "A database subnet group in the VPC."
  type        = string
}

variable "confidence_client_secret" {
  description = "The client whose flags are served. It goes into Secrets Manager, and into neither plan nor state."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "secret_version" {
  description = "Raise it to write a changed confidence_client_secret."
  type        = number
  default     = 1
}

variable "alarm_emails" {
  description = "Who is told when something needs a look."
  type        = set(string)
}
