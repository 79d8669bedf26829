"""LiteLLM: a callback that shortens results of tools, in its proxy and in `litellm.acompletion`."""

from __future__ import annotations

import asyncio
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from tokenry.apps.adapters.settings import Settings


class Shortening(CustomLogger):
    """Put into `litellm.callbacks`, or name it in the proxy's configuration.

    Args:
        settings: those of `Settings`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = Settings(**settings)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> Any:
        """In the proxy, before a request is sent."""
        return await asyncio.to_thread(self._shortened, data)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> Any:
        """In the library, before a request is sent."""
        return await asyncio.to_thread(self._shortened, kwargs)

    def _shortened(self, data: dict[str, Any]) -> dict[str, Any]:
        given = data.get("tools")
        messages, tools = self.settings.shortened(data.get("messages"), given)
        return data | {"messages": messages} | ({"tools": tools} if tools is not given else {})
