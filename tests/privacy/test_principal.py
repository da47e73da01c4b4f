"""Who acts, and whether the policy of AUTH=open lets them."""

import pytest

from kernel.errors import Category, Problem
from privacy.authorize import Interaction, LoopbackAuthorizer, Request
from privacy.principal import SERVER, Principal, is_loopback

READ = Request(interaction=Interaction.READ, target="Patient", target_id="p1", compartment="Patient/p1")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_the_names_and_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "10.0.0.7", "::ffff:10.0.0.7", "fe80::1", "0.0.0.0", "localhost.example", "127.1"]
)
def test_every_other_name_is_another_machine_s(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("principal", [SERVER, Principal(client="epic", client_address="::1")])
def test_an_open_server_serves_its_own_process_and_machine(principal: Principal) -> None:
    LoopbackAuthorizer().require(principal, READ)


def test_an_open_server_refuses_another_machine_and_names_no_patient() -> None:
    with pytest.raises(Problem) as refused:
        LoopbackAuthorizer().require(Principal(client="epic", client_address="10.0.0.7"), READ)
    assert refused.value.category is Category.FORBIDDEN
    assert "p1" not in refused.value.detail
