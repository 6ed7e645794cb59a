# When the functions run. What the scheduler cannot deliver ends in a queue, and in an alarm.

locals {
  schedule_minutes = {
    sync-job     = var.sync.schedule_minutes
    log-consumer = var.consumer.schedule_minutes
  }
}

resource "aws_scheduler_schedule_group" "jobs" {
  name = var.name
}

resource "aws_scheduler_schedule" "job" {
  for_each = local.function

  name                = each.key
  group_name          = aws_scheduler_schedule_group.jobs.name
  description         = "Calls ${each.value}"
  schedule_expression = "rate(${local.schedule_minutes[each.key]} ${local.schedule_minutes[each.key] == 1 ? "minute" : "minutes"})"
  state               = var.is_enabled ? "ENABLED" : "DISABLED"
  kms_key_arn         = var.kms_key_arn

  # Deployments of several accounts and names do not all ask Cloudflare at the same second. The shortest window is a minute.
  flexible_time_window {
    mode                      = local.schedule_minutes[each.key] > 1 ? "FLEXIBLE" : "OFF"
    maximum_window_in_minutes = local.schedule_minutes[each.key] > 1 ? 1 : null
  }

  target {
    arn      = aws_lambda_function.job[each.key].arn
    role_arn = aws_iam_role.scheduler.arn

    retry_policy {
      maximum_event_age_in_seconds = max(60, local.schedule_minutes[each.key] * 60)
      maximum_retry_attempts       = 2
    }

    dead_letter_config {
      arn = aws_sqs_queue.undelivered.arn
    }
  }
}

# Once a day what is too old is thrown away and small files are merged. While a drain runs Lambda keeps the event, for as
# long as a drain may take.
resource "aws_scheduler_schedule" "maintain" {
  count = local.has_consumer ? 1 : 0

  name                = "maintain"
  group_name          = aws_scheduler_schedule_group.jobs.name
  description         = "Has ${local.function["log-consumer"]} put the lake in order"
  schedule_expression = "cron(${var.consumer.maintain_at_utc})"
  state               = var.is_enabled ? "ENABLED" : "DISABLED"
  kms_key_arn         = var.kms_key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.job["log-consumer"].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ command = "maintain" })

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 2
    }

    dead_letter_config {
      arn = aws_sqs_queue.undelivered.arn
    }
  }
}

resource "aws_sqs_queue" "undelivered" {
  name                      = "${var.name}-undelivered"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
}
