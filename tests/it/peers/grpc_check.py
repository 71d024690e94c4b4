# Both ends of gRPC calls by Google's library: a server, and a client that calls it through the gateway.
#
# Says the server's port; reads the gateway's address, a customer's key and the key of one who may call only once; says
# as JSON what the server has seen. A call that goes another way than it must ends this with a traceback.
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc import StatusCode

PATIENCE = 20  # seconds

started, cancelled = threading.Event(), threading.Event()
served, deadlines, tenants = [], [], set()


class Echo(grpc.GenericRpcHandler):
    """Bytes in, bytes out: messages need no schema to be carried."""

    def service(self, call):
        method = call.method.removeprefix("/test.Echo/")
        tenants.update(value for name, value in call.invocation_metadata if name == "x-tenant-id")
        served.append(method)
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Down": grpc.unary_stream_rpc_method_handler(lambda message, _: (message + bytes([i]) for i in range(5))),
            "Up": grpc.stream_unary_rpc_method_handler(lambda messages, _: b"".join(messages)),
            "Both": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
            "Fail": grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(StatusCode.NOT_FOUND, "nö")),
            "Hang": grpc.unary_unary_rpc_method_handler(hang),
        }[method]


def unary(message, context):
    context.set_trailing_metadata((("x-trailer", "1"), ("x-bytes-bin", b"\x00\xff")))
    return message


def hang(message, context):
    ended = threading.Event()
    context.add_callback(lambda: (cancelled.set(), ended.set()))
    deadlines.append(context.time_remaining())
    started.set()
    ended.wait(PATIENCE)
    return message


class Client:
    def __init__(self, channel, key):
        self.channel = channel
        self.told = {"metadata": (("x-api-key", key),), "timeout": PATIENCE}

    def unary(self, method, message=b""):
        return self.channel.unary_unary(f"/test.Echo/{method}").with_call(message, **self.told)

    def check_messages(self):
        answer, call = self.unary("Unary", b"hello")
        trailers = dict(call.trailing_metadata())
        assert (answer, trailers["x-trailer"], trailers["x-bytes-bin"]) == (b"hello", "1", b"\x00\xff"), trailers
        large = bytes(range(256)) * 4096
        assert self.unary("Unary", large)[0] == large
        down = self.channel.unary_stream("/test.Echo/Down")(b"x", **self.told)
        assert list(down) == [b"x" + bytes([i]) for i in range(5)]
        up = self.channel.stream_unary("/test.Echo/Up")
        assert up(iter([b"a"] * 100), **self.told) == b"a" * 100
        assert up(iter([]), **self.told) == b""

    def check_conversation(self):
        """Each message is sent only when the one before has come back."""
        turn = threading.Semaphore(1)
        said = [b"m%d" % i for i in range(500)]

        def speak():
            for message in said:
                assert turn.acquire(timeout=PATIENCE)
                yield message

        heard = []
        for message in self.channel.stream_stream("/test.Echo/Both")(speak(), **self.told):
            heard.append(message)
            turn.release()
        assert heard == said

    def check_endings(self):
        assert self.refusal("Fail") == (StatusCode.NOT_FOUND, "nö")

        call = self.channel.unary_unary("/test.Echo/Hang")
        error = failure(lambda: call(b"", **self.told | {"timeout": 0.5}))
        assert error.code() == StatusCode.DEADLINE_EXCEEDED, error
        assert cancelled.wait(PATIENCE), "the server learns of the deadline"

        started.clear()
        cancelled.clear()
        future = call.future(b"", **self.told)
        assert started.wait(PATIENCE)
        future.cancel()
        assert cancelled.wait(PATIENCE), "the server learns of the cancellation"

    def refusal(self, method):
        error = failure(lambda: self.unary(method))
        return error.code(), error.details()


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeds")


def check(address, key, key_for_one):
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        client = Client(channel, key)
        client.check_messages()
        client.check_conversation()
        client.check_endings()
        one = Client(channel, key_for_one)
        assert one.unary("Unary", b"first")[0] == b"first"
        refused = [*one.refusal("Unary"), *Client(channel, "nobodys").refusal("Unary")]
    codes = [refused[0].name, refused[2].name]
    assert refused[1] and refused[3], "a refusal says why"
    return {"refused": codes, "served": served, "tenants": sorted(tenants), "deadlines": deadlines}


def main():
    server = grpc.server(ThreadPoolExecutor(8), handlers=[Echo()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    print(json.dumps(check(*sys.stdin.readline().split())), flush=True)
    server.stop(None).wait()


main()
