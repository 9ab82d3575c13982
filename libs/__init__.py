"""What the services share. Nothing here knows a business rule of one service, or imports one."""
