"""python -m postkeep_appliance.agent"""

from postkeep_appliance.agent.main import main

main()
