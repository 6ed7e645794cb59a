# Alarms that mean that somebody has to look. The jobs' own metrics come from their log lines; what a function cannot say
# of itself (that it does not start, that nobody calls it) comes from Lambda and the scheduler.

locals {
  metrics = {
    namespace  = "flagedge"
    dimensions = { sync-job = { worker_name = local.worker_name }, log-consumer = { queue = local.queue_name } }
    confirmed  = ["run_unchanged", "run_deployed", "run_published", "run_stepped"]
    backlog    = "backlog"
    rejected   = "messages_rejected"
    dead       = "dead_letters"
    missing    = "missing_count"
    unkept     = "maintain_failed"
  }
  schedule_s = { for job in local.jobs : job => local.schedule_minutes[job] * 60 }
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

# The live state is only as fresh as the last run that found it current, or replaced it.
resource "aws_cloudwatch_metric_alarm" "unconfirmed" {
  alarm_name          = "${var.name}-state-unconfirmed"
  alarm_description   = "For ${var.alarms.unconfirmed_minutes} minutes no run of sync-job confirmed that the live flags are the current ones. They go on being served as they are. See docs/operations.md."
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  evaluation_periods  = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "confirmed"
    label       = "runs that confirmed the state"
    expression  = join(" + ", [for metric in local.metrics.confirmed : "FILL(${metric}, 0)"])
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.metrics.confirmed

    content {
      id = metric_query.value

      metric {
        namespace   = local.metrics.namespace
        metric_name = metric_query.value
        dimensions  = local.metrics.dimensions["sync-job"]
        period      = var.alarms.unconfirmed_minutes * 60
        stat        = "Sum"
      }
    }
  }
}

# Also what never came to a log line: a function that does not start, has no time or no memory left.
resource "aws_cloudwatch_metric_alarm" "failing" {
  for_each = local.function

  alarm_name          = "${each.value}-failing"
  alarm_description   = "${var.alarms.failed_runs} runs of ${each.key} in a row failed; its log says why in the last line of each."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = each.value }
  statistic           = "Sum"
  period              = local.schedule_s[each.key]
  evaluation_periods  = var.alarms.failed_runs
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "undelivered" {
  alarm_name          = "${var.name}-undelivered"
  alarm_description   = "The scheduler could not call a function: its role, the function or the key are not what they were. The events are in ${aws_sqs_queue.undelivered.name}; empty it when that is mended."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.undelivered.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# A backlog that shrinks is one that is being worked off. One that nobody measures grows too: the consumer does not run.
resource "aws_cloudwatch_metric_alarm" "backlog" {
  count = local.has_consumer ? 1 : 0

  alarm_name          = "${var.name}-backlog-growing"
  alarm_description   = "For ${var.alarms.backlog_minutes} minutes the flag-logs queue has grown, and it holds more than ${var.alarms.backlog_messages} messages; or no run of log-consumer said how many. Messages that are too old are lost. See docs/operations.md."
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  evaluation_periods  = ceil(var.alarms.backlog_minutes / local.schedule_minutes["log-consumer"])
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "growing"
    label       = "large, and larger than before"
    expression  = "IF(backlog > ${var.alarms.backlog_messages} AND DIFF(backlog) >= 0, 1, 0)"
    return_data = true
  }

  metric_query {
    id = "backlog"

    metric {
      namespace   = local.metrics.namespace
      metric_name = local.metrics.backlog
      dimensions  = local.metrics.dimensions["log-consumer"]
      period      = local.schedule_s["log-consumer"]
      stat        = "Maximum"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "consumer" {
  for_each = local.has_consumer ? {
    rejected = {
      metric      = local.metrics.rejected
      threshold   = 1
      description = "log-consumer could not read messages; they lie in rejected_messages with the reason."
    }
    dead-letters = {
      metric      = local.metrics.dead
      threshold   = 1
      description = "Messages came back from the dead-letter queue: log-consumer failed, or was away, for a hundred deliveries. They were loaded; find out why."
    }
    delivery-gap = {
      metric      = local.metrics.missing
      threshold   = var.alarms.delivery_gap_messages
      description = "The Worker counted flag logs that never arrived; delivery_health says from where and when."
    }
    maintenance = {
      metric      = local.metrics.unkept
      threshold   = 1
      description = "`log-consumer maintain` failed; until it succeeds nothing that is too old is deleted."
    }
  } : {}

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.description} See docs/operations.md."
  namespace           = local.metrics.namespace
  metric_name         = each.value.metric
  dimensions          = local.metrics.dimensions["log-consumer"]
  statistic           = "Maximum"
  period              = local.schedule_s["log-consumer"]
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
