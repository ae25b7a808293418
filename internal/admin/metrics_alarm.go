package admin

import "github.com/havip/havip/internal/report"

var alarmFamilies = []family[*report.Receiver]{
	{"havip_alarm_delivered_total", "How many messages have reached the receiver of alarms.", func(r *report.Receiver) float64 { return float64(r.Delivered) }},
	{"havip_alarm_failures_total", "How many attempts to reach the receiver of alarms have failed.", func(r *report.Receiver) float64 { return float64(r.Failed) }},
	{"havip_alarm_waiting", "How many alarms are in the message that is being delivered now.", func(r *report.Receiver) float64 { return float64(r.Waiting) }},
	{"havip_alarm_failing_start_timestamp_seconds", "Since when each attempt to reach the receiver of alarms fails, if it does.",
		func(r *report.Receiver) float64 { return timestamp(r.FailingSince) }},
}

// addAlarms exposes how the receivers of alarms fare.
func (s *sheet) addAlarms(receivers []report.Receiver) {
	var all []labelled[*report.Receiver]
	for i := range receivers {
		all = append(all, labelled[*report.Receiver]{&receivers[i], s.label("receiver", receivers[i].Name)})
	}
	add(s, alarmFamilies, all)
}
