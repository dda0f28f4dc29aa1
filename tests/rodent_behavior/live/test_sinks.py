"""Every sink, and a sink that fails."""

import json
import socket

from rodent_behavior.live.sinks import CallbackSink, Event, JsonLinesSink, PrintSink, Sinks, UdpSink

EVENT = Event(41, 1.5, 1700000000.25, "paw_lick", 0.875, "on", "level")
FIELDS = {
    "index": 41, "frame_time": 1.5, "wall": 1700000000.25, "label": "paw_lick", "p": 0.875, "state": "on",
    "reason": "level",
}  # fmt: skip


def test_json_lines_are_appended_at_once(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink(path)
    sink.send(EVENT)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [FIELDS]
    sink.close()
    again = JsonLinesSink(path)
    again.send(EVENT)
    again.close()
    assert len(path.read_text().splitlines()) == 2


def test_udp_sends_one_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        sink = UdpSink("127.0.0.1", receiver.getsockname()[1])
        sink.send(EVENT)
        assert json.loads(receiver.recv(4096)) == FIELDS
        sink.close()


def test_print_writes_a_line(capsys):
    PrintSink().send(EVENT)
    PrintSink().send(Event(50, None, 0.0, None, None, "restart", "gap"))
    assert capsys.readouterr().out.splitlines() == [
        "frame 41: paw_lick on (level) p=0.875",
        "frame 50: stream restart (gap)",
    ]


def test_a_failing_sink_is_counted_and_the_others_go_on(caplog):
    class Odd(Exception):
        pass

    def fail(event):
        raise Odd(event.label)

    got = []
    sinks = Sinks([CallbackSink(fail), CallbackSink(got.append)])
    sinks.send(EVENT)
    sinks.send(EVENT)
    sinks.close()
    assert got == [EVENT, EVENT]
    assert sinks.faults == 2
    assert len(caplog.records) == 1
